//! A TOML document that is being read: tables that know their names, values that know their lines, and the errors found
//! so far. Reading goes on after an error, so that all of them are told at once.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigError, ConfigErrors};
use super::keys::TableKind;

/// A file that is being read.
pub struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Document<'a> {
    /// A file with this text, in which nothing is wrong so far.
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, errors: RefCell::default() }
    }

    /// Notes an error. What the file says is quoted in one line, whatever is in it.
    pub fn fault(&self, span: Option<Range<usize>>, message: String) {
        let message = one_line(&message);
        let before = |span: Range<usize>| self.text.get(..span.start).unwrap_or(self.text);
        let line = span.map(|span| before(span).bytes().filter(|byte| *byte == b'\n').count() + 1);
        self.errors.borrow_mut().push(ConfigError { line, message });
    }

    /// Everything that is wrong, by line.
    pub fn into_errors(self) -> ConfigErrors {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| error.line);
        ConfigErrors { file: self.file.display().to_string(), errors }
    }

    /// The table that is the whole file.
    pub fn root<'d>(&'d self, table: &'d Spanned<DeTable<'d>>) -> Table<'d> {
        Table::open(self, String::new(), 0..0, table.get_ref(), TableKind::Root)
    }

    /// A path that the file names, from the file's own folder.
    pub fn path(&self, text: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(text)
    }
}

/// A table that is being read.
pub struct Table<'d> {
    document: &'d Document<'d>,
    name: String,
    span: Range<usize>,
    entries: &'d DeTable<'d>,
}

impl<'d> Table<'d> {
    fn open(
        document: &'d Document<'d>,
        name: String,
        span: Range<usize>,
        entries: &'d DeTable<'d>,
        kind: TableKind,
    ) -> Self {
        let table = Self { document, name, span, entries };
        for key in entries.keys() {
            if let Some(refusal) = kind.refusal(key.get_ref()) {
                table.fault(key.span(), &refusal);
            }
        }
        table
    }

    /// Notes an error of this table.
    pub fn fault(&self, span: Range<usize>, message: &str) {
        let place = if self.name.is_empty() { String::new() } else { format!("[{}] ", self.name) };
        self.document.fault(Some(span), format!("{place}{message}"));
    }

    /// Notes an error of a value of this table.
    pub fn fault_of(&self, key: &str, message: &str) {
        let span = self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span());
        self.fault(span, message);
    }

    /// The table below a key.
    pub fn child(&self, key: &str, kind: TableKind) -> Option<Table<'d>> {
        let (key, value) = self.entries.get_key_value(key)?;
        self.table(key.get_ref(), key.span(), value, kind)
    }

    /// The tables below all keys, which are names of the user's.
    pub fn children(&self, kind: TableKind) -> impl Iterator<Item = (&'d str, Table<'d>)> {
        let table = move |(key, value): (&'d Spanned<_>, &'d Spanned<DeValue<'d>>)| {
            let name: &'d std::borrow::Cow<'d, str> = key.get_ref();
            Some((name.as_ref(), self.table(name, key.span(), value, kind)?))
        };
        self.entries.iter().filter_map(table)
    }

    fn table(
        &self,
        key: &str,
        span: Range<usize>,
        value: &'d Spanned<DeValue<'d>>,
        kind: TableKind,
    ) -> Option<Table<'d>> {
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        match value.get_ref().as_table() {
            Some(entries) => Some(Self::open(self.document, name, span, entries, kind)),
            None => {
                self.fault(value.span(), &format!("`{key}` is {}; expected a table", found(value.get_ref())));
                None
            }
        }
    }

    /// The table that an element of an array is.
    pub fn element(&self, key: &str, value: &'d Spanned<DeValue<'d>>, kind: TableKind) -> Option<Table<'d>> {
        self.table(key, value.span(), value, kind)
    }

    /// The values of the array below a key; empty when there is none.
    pub fn array(&self, key: &str, expected: &str) -> &'d [Spanned<DeValue<'d>>] {
        let Some(value) = self.entries.get(key) else { return &[] };
        match value.get_ref().as_array() {
            Some(array) => array,
            None => {
                self.fault(value.span(), &format!("`{key}` is {}; expected {expected}", found(value.get_ref())));
                &[]
            }
        }
    }

    /// Every key and value.
    pub fn entries(&self) -> impl Iterator<Item = (&'d str, &'d Spanned<DeValue<'d>>)> {
        self.entries.iter().map(|(key, value)| {
            let name: &'d std::borrow::Cow<'d, str> = key.get_ref();
            (name.as_ref(), value)
        })
    }

    /// The value of a key, read by `read`: none when the key is not there, or when its value is wrong, which is noted
    /// as "expected …" or in the words of `read`.
    pub fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.entries.get(key)?;
        match read(value.get_ref()) {
            Ok(read) => Some(read),
            Err(Wrong::Type) => {
                self.fault(value.span(), &format!("`{key}` is {}; expected {expected}", found(value.get_ref())));
                None
            }
            Err(Wrong::Value(why)) => {
                self.fault(value.span(), &format!("`{key}`: {why}"));
                None
            }
        }
    }

    /// Whether the key is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

/// Why a value is not taken.
pub enum Wrong {
    /// It is something else altogether.
    Type,
    /// It is of the right type.
    Value(String),
}

/// The same text with every control character written as its escape.
fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    text.chars().map(escaped).collect()
}

/// What a value is, in words.
pub fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
