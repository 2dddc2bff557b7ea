//! Data on stdout: tables for people, JSON for programs.

use std::io::Write as _;

use serde::Serialize;

/// Writes a line. A reader that has gone away, as `head` does, is no failure of ours to report.
///
/// # Errors
/// When stdout takes no more for another reason.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Writes a value as JSON over several lines.
///
/// # Errors
/// As [`line()`].
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Columns under headings, each as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes it.
    ///
    /// # Errors
    /// As [`line()`].
    pub fn print(&self) -> anyhow::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A number of milliseconds for people; a dash where it is not known.
pub fn ago(ms: Option<u64>) -> String {
    match ms {
        None => "-".into(),
        Some(ms @ 0..1_000) => format!("{ms}ms"),
        Some(ms) => humantime::format_duration(std::time::Duration::from_secs(ms / 1_000)).to_string(),
    }
}

/// A number of bytes for people.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// Numbers as ranges: `0-3, 7`.
pub fn ranges(numbers: &[u16]) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            Some(_) | None => ranges.push((*number, *number)),
        }
    }
    let show = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ranges.is_empty() { "-".into() } else { ranges.iter().map(show).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_in_a_row_become_a_range() {
        for (numbers, text) in
            [(&[][..], "-"), (&[0, 1, 2, 5], "0-2, 5"), (&[7], "7"), (&[65_534, 65_535], "65534-65535")]
        {
            assert_eq!(super::ranges(numbers), text);
        }
    }
}
