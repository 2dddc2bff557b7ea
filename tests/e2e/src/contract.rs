//! The OpenAPI document of a host, held against what the host answers: each answer must have a status, a media type and a body
//! that the document has for it, and no field that it has not. Of JSON Schema it knows what the document uses; a keyword it
//! does not know is an error, so that nothing passes unchecked.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::api::{Answer, Api};

/// The document, and which operations were answered well.
#[derive(Debug)]
pub struct Contract {
    document: Value,
    answered: BTreeSet<(String, String)>,
}

impl Contract {
    /// The contract of a host.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn of(api: &Api) -> Result<Self> {
        let (status, document) = api.get("/openapi.json")?;
        ensure!(status == 200 && document["openapi"] == "3.1.0", "no document: {status}");
        Ok(Self { document, answered: BTreeSet::new() })
    }

    /// Checks an answer to an operation, such as `GET /v1/jobs/{job}`.
    ///
    /// # Errors
    /// When the document has it otherwise.
    pub fn check(&mut self, operation: &str, answer: &Answer) -> Result<()> {
        let (method, path) = operation.split_once(' ').context("an operation has a method and a path")?;
        let told = &self.document["paths"][path][method.to_lowercase()]["responses"];
        let content = &told[answer.status.to_string()]["content"];
        let content = content.as_object().with_context(|| {
            let body = String::from_utf8_lossy(&answer.body);
            format!("{operation}: the document has no status {}: {body}", answer.status)
        })?;
        let media_type = answer.media_type.split(';').next().unwrap_or_default().trim();
        let told = content.get(media_type).with_context(|| format!("{operation}: {media_type:?} is not documented"))?;
        if media_type == "application/json" || media_type == "application/problem+json" {
            let body: Value = serde_json::from_slice(&answer.body)?;
            self.matches(&told["schema"], &body, true).with_context(|| format!("{operation}: {body}"))?;
        }
        if (200..300).contains(&answer.status) {
            self.answered.insert((method.to_lowercase(), path.to_owned()));
        }
        Ok(())
    }

    /// Checks a value against a schema of the document.
    ///
    /// # Errors
    /// When it does not match.
    pub fn check_value(&self, schema: &str, value: &Value) -> Result<()> {
        let schema = serde_json::json!({ "$ref": format!("#/components/schemas/{schema}") });
        self.matches(&schema, value, true).with_context(|| value.to_string())
    }

    /// Expects every operation of the document to have been answered well.
    ///
    /// # Errors
    /// Names those that were not.
    pub fn finish(self) -> Result<()> {
        let paths = self.document["paths"].as_object().context("the document has paths")?;
        let methods = |item: &Value| item.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
        let operations = paths.iter().flat_map(|(path, item)| methods(item).into_iter().map(|of| (of, path.clone())));
        let missing: Vec<_> = operations.filter(|operation| !self.answered.contains(operation)).collect();
        ensure!(missing.is_empty(), "these were not called: {missing:?}");
        Ok(())
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> Result<&'a Map<String, Value>> {
        let schema = schema.as_object().context("a schema is an object")?;
        match schema.get("$ref").and_then(Value::as_str) {
            Some(to) => {
                let target = self.document.pointer(to.trim_start_matches('#'));
                self.resolved(target.with_context(|| format!("{to} leads nowhere"))?)
            }
            None => Ok(schema),
        }
    }

    /// Whether a value matches a schema; a whole one has no fields beside those of its schema.
    fn matches(&self, schema: &Value, value: &Value, whole: bool) -> Result<()> {
        let schema = self.resolved(schema)?;
        for (keyword, told) in schema {
            match keyword.as_str() {
                "description" | "default" => {}
                "type" => ensure!(is_of_type(told, value), "{value} is not {told}"),
                "enum" => ensure!(told.as_array().is_some_and(|all| all.contains(value)), "{value} is not of {told}"),
                "minimum" => ensure!(value.is_null() || value.as_f64() >= told.as_f64(), "{value} is under {told}"),
                "maximum" => ensure!(value.is_null() || value.as_f64() <= told.as_f64(), "{value} is over {told}"),
                "format" => ensure!(is_of_format(told, value), "{value} is no {told}"),
                "required" => {
                    let missing = told.as_array().into_iter().flatten().filter_map(Value::as_str);
                    let missing: Vec<&str> = missing.filter(|name| value.get(name).is_none()).collect();
                    ensure!(missing.is_empty(), "fields are missing: {missing:?}");
                }
                "properties" => {
                    for (name, told) in told.as_object().into_iter().flatten() {
                        let field = value.get(name).map_or(Ok(()), |field| self.matches(told, field, true));
                        field.with_context(|| format!("field {name}"))?;
                    }
                }
                // Fields beside its own are never taken.
                "additionalProperties" if told == &Value::Bool(false) => {}
                "additionalProperties" => {
                    let fields = value.as_object().into_iter().flatten();
                    fields.into_iter().try_for_each(|(_, field)| self.matches(told, field, true))?;
                }
                "propertyNames" => ensure!(told == &serde_json::json!({ "type": "string" }), "{told} is not checked"),
                "items" => {
                    value.as_array().into_iter().flatten().try_for_each(|item| self.matches(told, item, true))?;
                }
                "allOf" => {
                    told.as_array().into_iter().flatten().try_for_each(|part| self.matches(part, value, false))?;
                }
                "oneOf" => {
                    let choices: Vec<_> = told.as_array().into_iter().flatten().collect();
                    let matching = choices.iter().filter(|choice| self.matches(choice, value, whole).is_ok()).count();
                    ensure!(matching == 1, "{value} matches {matching} of {} choices", choices.len());
                }
                other => bail!("schemas with {other} are not checked"),
            }
        }
        let names = self.names(schema)?;
        let fields = value.as_object().filter(|_| whole && !names.is_empty());
        let unknown: Vec<_> = fields.into_iter().flat_map(Map::keys).filter(|name| !names.contains(*name)).collect();
        ensure!(unknown.is_empty(), "fields are not documented: {unknown:?}");
        Ok(())
    }

    /// The fields that a schema has.
    fn names(&self, schema: &Map<String, Value>) -> Result<BTreeSet<String>> {
        let own = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let mut names: BTreeSet<String> = own.cloned().collect();
        for part in ["allOf", "oneOf"].iter().filter_map(|keyword| schema.get(*keyword)?.as_array()).flatten() {
            names.extend(self.names(self.resolved(part)?)?);
        }
        Ok(names)
    }
}

fn is_of_type(told: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    match told {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => false,
    }
}

fn is_of_format(told: &Value, value: &Value) -> bool {
    match told.as_str() {
        Some("int32") => value.is_null() || value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        Some("int64") => value.is_null() || value.as_i64().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_documented_is_found() {
        let document = json!({ "components": { "schemas": {
            "Phase": { "type": "string", "enum": ["running"] },
            "Task": {
                "allOf": [
                    { "type": "object", "required": ["phase"], "properties": { "phase": { "$ref": "#/components/schemas/Phase" } } },
                    { "type": "object", "required": ["lag"], "properties": {
                        "lag": { "type": ["integer", "null"], "format": "int64", "minimum": 0 },
                        "ids": { "type": "array", "items": { "type": "string" } }
                    } }
                ]
            }
        } } });
        let contract = Contract { document, answered: BTreeSet::new() };
        for (value, matches) in [
            (json!({ "phase": "running", "lag": 3 }), true),
            (json!({ "phase": "running", "lag": null, "ids": ["a"] }), true),
            (json!({ "phase": "running" }), false),
            (json!({ "phase": "walking", "lag": 3 }), false),
            (json!({ "phase": "running", "lag": -1 }), false),
            (json!({ "phase": "running", "lag": "3" }), false),
            (json!({ "phase": "running", "lag": 3, "ids": [1] }), false),
            (json!({ "phase": "running", "lag": 3, "more": 1 }), false),
        ] {
            assert_eq!(contract.check_value("Task", &value).is_ok(), matches, "{value}");
        }
    }
}
