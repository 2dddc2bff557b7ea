//! A configuration that is right resolves to what it says, and one that is wrong is told where.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use pelton_cli::config::resolve;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::arbitrary::text;
use crate::check;

/// A job as it is written, with what is not said left out.
#[derive(Clone, Debug)]
struct Written {
    inputs: Vec<(String, Option<String>)>,
    tasks: Option<u32>,
    commit_interval_ms: Option<u64>,
    batch_timeout_ms: Option<u64>,
    memory_kib: Option<u64>,
    retries: Option<u32>,
    log_lines: Option<u32>,
    outputs: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
}

fn written() -> impl Strategy<Value = Written> {
    let stream = || "[a-zA-Z0-9_.-]{1,20}";
    let inputs = btree_map(stream(), option::of("[a-z]{1,8}"), 1..6).prop_map(|inputs| inputs.into_iter().collect());
    let numbers = (
        option::of(1..=65_536u32),
        option::of(10..=60_000u64),
        option::of(10..=600_000u64),
        option::of(1_024..9_999u64),
    );
    let counts = (option::of(0..=100u32), option::of(0..=100u32));
    let name = text().prop_filter("it has a name", |name| !name.is_empty());
    (inputs, numbers, counts, btree_map(name, stream(), 0..4), btree_map(text(), text(), 0..6)).prop_map(
        |(inputs, (tasks, commit_interval_ms, batch_timeout_ms, memory_kib), (retries, log_lines), outputs, config)| {
            Written {
                inputs,
                tasks,
                commit_interval_ms,
                batch_timeout_ms,
                memory_kib,
                retries,
                log_lines,
                outputs,
                config,
            }
        },
    )
}

/// Text as TOML quotes it, every character that is not plain as its number.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            ' ' | '!' | '#'..='[' | ']'..='~' => quoted.push(c),
            c => write!(quoted, "\\U{:08X}", u32::from(c)).unwrap(),
        }
    }
    quoted.push('"');
    quoted
}

fn document(job: &Written) -> String {
    let mut text = String::from("[jobs.orders]\ncomponent = \"a.wasm\"\n");
    let inputs = job.inputs.iter().map(|(stream, from_job)| match from_job {
        Some(from_job) => format!("{{ stream = {}, from-job = {} }}", quoted(stream), quoted(from_job)),
        None => quoted(stream),
    });
    writeln!(text, "inputs = [{}]", inputs.collect::<Vec<_>>().join(", ")).unwrap();
    let mut say = |table: &str, key: &str, value: Option<String>| {
        if let Some(value) = value {
            writeln!(text, "{table}{key} = {value}").unwrap();
        }
    };
    let ms = |ms: Option<u64>| ms.map(|ms| format!("\"{ms}ms\""));
    say("", "tasks", job.tasks.map(|tasks| tasks.to_string()));
    say("", "commit-interval", ms(job.commit_interval_ms));
    say("limits.", "batch-timeout", ms(job.batch_timeout_ms));
    say("limits.", "memory", job.memory_kib.map(|kib| format!("\"{kib}KiB\"")));
    say("limits.", "log-lines", job.log_lines.map(|lines| format!("{lines:#x}")));
    say("on-error.", "retries", job.retries.map(|retries| retries.to_string()));
    for (name, stream) in &job.outputs {
        say("outputs.", &quoted(name), Some(format!("{{ stream = {} }}", quoted(stream))));
    }
    for (key, value) in &job.config {
        say("config.", &quoted(key), Some(quoted(value)));
    }
    text
}

#[test]
fn what_is_written_is_what_is_resolved() {
    check(2_000, written(), |written| {
        let config = resolve(Path::new("pelton.toml"), &document(&written)).expect("nothing in it is wrong");
        let job = &config.jobs["orders"];
        let inputs = job.inputs.iter().cloned().zip(job.settings.from_job.iter().cloned());
        assert_eq!(inputs.collect::<Vec<_>>(), written.inputs);
        assert_eq!(job.tasks.get(), written.tasks.unwrap_or(256));
        assert_eq!(job.settings.commit_interval_ms, written.commit_interval_ms.unwrap_or(500));
        assert_eq!(job.limits.batch_timeout_ms, written.batch_timeout_ms.unwrap_or(5_000));
        assert_eq!(job.limits.memory_bytes_max, written.memory_kib.map_or(64 << 20, |kib| kib << 10));
        assert_eq!(job.settings.retries, written.retries.unwrap_or(3));
        assert!(written.log_lines.is_none_or(|lines| job.limits.log_lines_max == lines));
        let outputs = job.outputs.iter().map(|(name, output)| (name.clone(), output.stream.clone()));
        assert_eq!(outputs.collect::<BTreeMap<_, _>>(), written.outputs);
        assert_eq!(job.config, written.config);
    });
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let keys = ["inputs", "tasks", "start", "component", "consumer", "aggregates", "outputs", "limits", "config"];
    let unknown = text().prop_filter("it is known", move |key| !keys.contains(&key.as_str()));
    check(2_000, (written(), unknown), |(written, key)| {
        let mut lines: Vec<String> = document(&written).lines().map(str::to_owned).collect();
        // Any line but the last is in a table of its own as well: the key stands behind the head.
        lines.insert(1, format!("{} = 1", quoted(&key)));
        let errors = resolve(Path::new("pelton.toml"), &lines.join("\n")).expect_err("a key is unknown");
        let told: String =
            key.chars().map(|c| if c.is_control() { c.escape_debug().collect() } else { c.to_string() }).collect();
        let named = |message: &str| message.contains(&format!("unknown key `{told}`"));
        assert!(errors.errors.iter().any(|error| error.line == Some(2) && named(&error.message)), "{errors}");
        pelton_fuzz::config(lines.join("\n").as_bytes());
    });
}

/// Pieces of which configurations are made, in an order in which they may make none.
fn pieces() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "[host]",
        "[aws]",
        "[jobs.a]",
        "[[jobs.a]]",
        "[jobs.a.limits]",
        "[jobs.a.outputs.x]",
        "[jobs.a.on-error]",
        "jobs",
        "host",
        "inputs",
        "tasks",
        "start",
        "component",
        "consumer",
        "listen",
        "name",
        "stop-limit",
        "endpoint",
        "table",
        "memory",
        "stream",
        "format",
        "retries",
        "then",
        "limits",
        "\n",
        "\n",
        "\n",
        " = ",
        " = ",
        " = ",
        ".",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\"\"\"",
        "'",
        "# ",
        "1",
        "-0",
        "0x10",
        "1e9",
        "nan",
        "true",
        "\"1s\"",
        "\"1MiB\"",
        "\"a\"",
        "[\"a\"]",
        "2026-01-31",
        "2026-01-31T00:00:00Z",
        "\"localhost:1\"",
        "\"http://h\"",
        "\"\\u0000\"",
        "\r\n",
        "\t",
        "\u{fc}",
    ]);
    vec(prop_oneof![9 => piece.prop_map(str::to_owned), 1 => text()], 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_text_is_resolved_or_refused() {
    check(10_000, pieces(), |text| pelton_fuzz::config(text.as_bytes()));
    check(2_000, vec(any::<u8>(), 0..100), |bytes| pelton_fuzz::config(&bytes));
}

#[test]
fn a_file_with_lines_cut_or_moved_is_told_line_by_line() {
    let cuts = vec(any::<Index>(), 1..4);
    check(2_000, (written(), cuts, any::<Index>()), |(written, cuts, to)| {
        let mut lines: Vec<String> = document(&written).lines().map(str::to_owned).collect();
        for cut in cuts {
            let at = cut.index(lines.len());
            let mut line = lines.remove(at);
            let end = line.char_indices().map(|(at, _)| at).nth(to.index(line.chars().count().max(1))).unwrap_or(0);
            line.truncate(end);
            let to = to.index(lines.len() + 1);
            lines.insert(to, line);
        }
        pelton_fuzz::config(lines.join("\n").as_bytes());
    });
}
