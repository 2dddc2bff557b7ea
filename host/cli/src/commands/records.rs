//! Records to put, read line by line: NDJSON, or lines that are the data themselves. A line that is wrong is told by
//! its number.

use std::io::{BufRead, Read as _};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;

/// Largest record, with its partition key: the limit of Kinesis.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Longest partition key in characters: the limit of Kinesis.
const KEY_CHARS_MAX: usize = 256;
/// Longest line: a record in base64, or with every byte escaped as `\u00xx`.
const LINE_BYTES_MAX: u64 = 7 * 1024 * 1024;

/// A record to put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Partition key.
    pub key: String,
    /// Places the record instead of its partition key's hash.
    pub explicit_hash_key: Option<u128>,
    /// Data.
    pub data: Vec<u8>,
}

impl Record {
    /// What it counts for, in bytes.
    pub fn weight(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// What lines are.
#[derive(Clone, Debug)]
pub enum LineFormat {
    /// `{"key": "…", "data": "…"}` or `{"key": "…", "data_base64": "…"}`, and perhaps `"explicit_hash_key": "…"`.
    Json,
    /// Data, under this partition key or else under the line's number.
    Data(Option<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    data: Option<String>,
    data_base64: Option<String>,
    explicit_hash_key: Option<String>,
}

/// The records of a file or of stdin.
pub struct Records<R> {
    reader: R,
    format: LineFormat,
    line: u64,
    bytes: u64,
}

impl<R: BufRead> Records<R> {
    /// Reads lines of a format.
    pub fn new(reader: R, format: LineFormat) -> Self {
        Self { reader, format, line: 0, bytes: 0 }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line that is not empty; none at the end.
    fn next_line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            self.bytes += read as u64;
            ensure!((read as u64) < LINE_BYTES_MAX, "it has more than {LINE_BYTES_MAX} bytes");
            while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                line.pop();
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn next_record(&mut self) -> anyhow::Result<Option<Record>> {
        let Some(line) = self.next_line()? else { return Ok(None) };
        let record = match &self.format {
            LineFormat::Json => parse(&line)?,
            LineFormat::Data(key) => {
                let key = key.clone().unwrap_or_else(|| self.line.to_string());
                Record { key, explicit_hash_key: None, data: line }
            }
        };
        let chars = record.key.chars().count();
        ensure!(
            (1..=KEY_CHARS_MAX).contains(&chars),
            "its key has {chars} characters; Kinesis takes 1 to {KEY_CHARS_MAX}"
        );
        let weight = record.weight();
        ensure!(weight <= RECORD_BYTES_MAX, "key and data have {weight} bytes; Kinesis takes {RECORD_BYTES_MAX}");
        Ok(Some(record))
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = anyhow::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.next_record();
        record.with_context(|| format!("line {}", self.line.max(1))).transpose()
    }
}

fn parse(line: &[u8]) -> anyhow::Result<Record> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        anyhow!("{error}; expected {{\"key\": \"…\", \"data\": \"…\"}}, with \"data_base64\" for data that is no text")
    })?;
    let data = match (line.data, line.data_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => pelton_api::model::state::from_base64(&text).context("data_base64 is not base64")?,
        (Some(_), Some(_)) => bail!("it has both data and data_base64; give one"),
        (None, None) => bail!("it has neither data nor data_base64; give one"),
    };
    let explicit = line.explicit_hash_key.map(|text| {
        text.parse().map_err(|_| anyhow!("explicit_hash_key {text:?} is not a decimal number below 2^128"))
    });
    Ok(Record { key: line.key, explicit_hash_key: explicit.transpose()?, data })
}

#[cfg(test)]
mod tests {
    use super::{LineFormat, Records};

    /// The records of some lines as `key=data`, or the error.
    fn check(format: LineFormat, lines: &str, expected: &str) {
        let records: Vec<String> = Records::new(lines.as_bytes(), format)
            .map(|record| match record {
                Ok(record) => format!("{}={}", record.key, String::from_utf8_lossy(&record.data)),
                Err(error) => format!("{error:#}"),
            })
            .collect();
        let found = records.join(" ");
        assert!(found.contains(expected), "{found:?} should have {expected:?}");
    }

    #[test]
    fn lines_become_records_or_errors_with_their_number() {
        let json = || LineFormat::Json;
        check(json(), "{\"key\":\"a\",\"data\":\"1\"}\n\n{\"key\":\"b\",\"data_base64\":\"Mg==\"}", "a=1 b=2");
        check(json(), "{\"key\":\"a\",\"data\":\"1\"}\n{\"key\":\"a\"}", "a=1 line 2: it has neither data nor");
        check(json(), "{\"key\":\"a\",\"data\":\"1\",\"data_base64\":\"Mg==\"}", "line 1: it has both");
        check(json(), "{\"key\":\"a\",\"value\":\"1\"}", "line 1: unknown field `value`");
        check(json(), "{\"key\":\"\",\"data\":\"1\"}", "line 1: its key has 0 characters");
        check(json(), "{\"key\":\"a\",\"data\":\"1\",\"explicit_hash_key\":\"x\"}", "is not a decimal number");
        check(json(), "nonsense", "line 1: expected");
        check(LineFormat::Data(None), "x y\nz\r\n", "1=x y 2=z");
        check(LineFormat::Data(Some("k".into())), "x", "k=x");
    }
}
