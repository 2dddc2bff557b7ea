//! The parameters of a query, read strictly: unknown names, names given twice and bytes that are not text are refused,
//! because a misspelt `limit` must not pass for the default one.

use std::collections::BTreeMap;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::model::state::from_base64;
use crate::problem::{Kind, Refusal};

/// Names nearer than this are suggested; 1 is the same name.
const SUGGESTION_SIMILARITY_MIN: f64 = 0.7;

/// The parameters of one query.
#[derive(Debug)]
pub struct Parameters {
    given: BTreeMap<String, String>,
}

fn invalid(detail: String) -> Refusal {
    Refusal::new(Kind::InvalidParameter, detail)
}

fn decoded(text: &str, name: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let refused = |_| invalid(format!("{name} is not UTF-8; give bytes in the parameter's -base64 form"));
    Ok(decoded.map_err(refused)?.into_owned())
}

impl Parameters {
    /// Reads a query that may have these parameters.
    ///
    /// # Errors
    /// When it has another one, or one twice.
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut given = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, "the name of a parameter")?;
            if !known.contains(&name.as_str()) {
                return Err(invalid(unknown(&name, known)));
            }
            let value = decoded(value, &format!("parameter {name}"))?;
            if given.insert(name.clone(), value).is_some() {
                return Err(invalid(format!("parameter {name} is given twice")));
            }
        }
        Ok(Self { given })
    }

    /// A parameter as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| invalid(format!("parameter {name} is missing")))
    }

    /// Bytes given as text under a name, or as base64 under `name-base64`.
    ///
    /// # Errors
    /// When both are given, or the base64 is none.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, Refusal> {
        let encoded = format!("{name}-base64");
        match (self.text(name), self.text(&encoded)) {
            (Some(_), Some(_)) => Err(invalid(format!("give {name} or {encoded}, not both"))),
            (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
            (None, Some(text)) => {
                // A plus sign that was not escaped reached us as a space.
                let bytes = from_base64(&text.replace(' ', "+"));
                bytes.map(Some).map_err(|error| invalid(format!("parameter {encoded} is not base64: {error}")))
            }
            (None, None) => Ok(None),
        }
    }

    /// A whole number, if it is given.
    ///
    /// # Errors
    /// When it is none, or too large.
    pub fn whole<N: FromStr>(&self, name: &str) -> Result<Option<N>, Refusal> {
        let refused = |text: &str| invalid(format!("parameter {name} is {text:?}; expected a whole number"));
        self.text(name).map(|text| text.parse().map_err(|_| refused(text))).transpose()
    }

    /// `true` or `false`, which is meant where it is not given.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(invalid(format!("parameter {name} is {text:?}; expected true or false"))),
        }
    }

    /// A whole number from 1 to `max`.
    ///
    /// # Errors
    /// When it is none.
    pub fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| invalid(format!("parameter {name} is {text:?}; expected a whole number from 1 to {max}")))
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let likeness = |known: &&&str| (strsim::jaro_winkler(name, known) * 1e6) as u64;
    let nearest = known.iter().max_by_key(likeness);
    match nearest {
        Some(nearest) if strsim::jaro_winkler(name, nearest) >= SUGGESTION_SIMILARITY_MIN => {
            format!("unknown parameter {name:?}; did you mean {nearest}?")
        }
        Some(_) => format!("unknown parameter {name:?}; known here: {}", known.join(", ")),
        None => format!("unknown parameter {name:?}; this address takes none"),
    }
}
