//! Values as people write them: durations, sizes, times, names.

use std::time::Duration;

use toml::de::DeValue;

use super::document::Wrong;
use super::keys::nearest_value;

/// Text that is not empty.
pub fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    match value.as_str() {
        Some("") => Err(Wrong::Value("is empty".into())),
        Some(text) => Ok(text.to_owned()),
        None => Err(Wrong::Type),
    }
}

/// A whole number within bounds.
pub fn number(value: &DeValue<'_>, least: u64, greatest: u64) -> Result<u64, Wrong> {
    let number = value.as_integer().ok_or(Wrong::Type)?;
    let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok();
    parsed
        .filter(|number| (least..=greatest).contains(number))
        .ok_or_else(|| Wrong::Value(format!("{number} is not from {least} to {greatest}")))
}

/// A duration such as `500ms`, within bounds, in milliseconds.
pub fn duration_ms(value: &DeValue<'_>, least: Duration, greatest: Duration) -> Result<u64, Wrong> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    let duration = humantime::parse_duration(text)
        .map_err(|error| Wrong::Value(format!("{text:?} is not a duration such as \"500ms\" or \"5s\": {error}")))?;
    if !(least..=greatest).contains(&duration) {
        let (least, greatest) = (humantime::format_duration(least), humantime::format_duration(greatest));
        return Err(Wrong::Value(format!("{text:?} is not from {least} to {greatest}")));
    }
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A size such as `64MiB`, within bounds, in bytes.
pub fn size_bytes(value: &DeValue<'_>, least: u64, greatest: u64) -> Result<u64, Wrong> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    let size = text.parse::<bytesize::ByteSize>();
    let size = size.map_err(|error| Wrong::Value(format!("{text:?} is not a size such as \"64MiB\": {error}")))?;
    if !(least..=greatest).contains(&size.as_u64()) {
        let show = |bytes| bytesize::ByteSize(bytes).display().iec();
        return Err(Wrong::Value(format!("{text:?} is not from {} to {}", show(least), show(greatest))));
    }
    Ok(size.as_u64())
}

/// A point in time with its offset from UTC, in milliseconds since 1970.
pub fn timestamp_ms(text: &str) -> Result<u64, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|error| format!("{text:?} is not a time such as \"2026-01-31T12:00:00Z\": {error}"))?;
    u64::try_from(time.as_millisecond()).map_err(|_| format!("{text:?} lies before 1970"))
}

/// One of a few words, which must be one that this version has.
pub fn word<T: Copy>(value: &DeValue<'_>, words: &[(&str, Option<T>)]) -> Result<T, Wrong> {
    let text = value.as_str().ok_or(Wrong::Type)?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, Some(meaning))) => Ok(*meaning),
        Some((_, None)) => {
            let given = words.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| format!("{word:?}"));
            let given = given.collect::<Vec<_>>().join(" or ");
            Err(Wrong::Value(format!("{text:?} is not available in this version; use {given}")))
        }
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(Wrong::Value(format!("unknown value {text:?}; {}", nearest_value(text, &words))))
        }
    }
}

/// The address of a service.
pub fn endpoint(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value)?;
    match reqwest::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text),
        Ok(_) => Err(Wrong::Value(format!("{text:?} is not an address such as \"http://127.0.0.1:4567\""))),
        Err(error) => {
            Err(Wrong::Value(format!("{text:?} is not an address such as \"http://127.0.0.1:4567\": {error}")))
        }
    }
}

/// The name of a Kinesis stream: 1 to 128 letters, digits, `_`, `.` and `-`.
pub fn stream_name(name: &str) -> Result<(), String> {
    if is_name(name, 1, 128) {
        return Ok(());
    }
    Err(format!("{name:?} is not the name of a stream: 1 to 128 letters, digits, `_`, `.` or `-`"))
}

/// The name of a DynamoDB table: 3 to 255 letters, digits, `_`, `.` and `-`.
pub fn table_name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if is_name(&name, 3, 255) {
        return Ok(name);
    }
    Err(Wrong::Value(format!("{name:?} is not the name of a table: 3 to 255 letters, digits, `_`, `.` or `-`")))
}

fn is_name(name: &str, least: usize, greatest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (least..=greatest).contains(&name.len()) && name.bytes().all(allowed)
}
