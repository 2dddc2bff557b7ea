//! Every key of every table, in one place: what is known here is taken, what is known for later is told apart from what
//! is unknown, and an unknown key is answered with the nearest one.

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// The whole file.
    Root,
    /// `[host]`
    Host,
    /// `[aws]`
    Aws,
    /// `[jobs.NAME]`
    Job,
    /// One of a job's inputs, written as a table.
    Input,
    /// `[jobs.NAME.outputs.X]`
    Output,
    /// `[jobs.NAME.limits]`
    Limits,
    /// `[jobs.NAME.on-error]`
    OnError,
    /// `[jobs.NAME.grants]`
    Grants,
    /// A table whose keys are the user's: `[jobs]`, `[jobs.NAME.outputs]`, `[jobs.NAME.config]`, `[jobs.NAME.grants.env]`.
    Named,
}

/// Keys nearer than this are suggested; 1 is the same key.
const SUGGESTION_SIMILARITY_MIN: f64 = 0.75;

impl TableKind {
    const ALL: [Self; 10] = [
        Self::Root,
        Self::Host,
        Self::Aws,
        Self::Job,
        Self::Input,
        Self::Output,
        Self::Limits,
        Self::OnError,
        Self::Grants,
        Self::Named,
    ];

    /// The keys it takes; none where they are the user's.
    fn keys(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Root => Some(&["host", "aws", "jobs"]),
            Self::Host => Some(&["listen", "data-dir", "name", "token-file", "stop-limit"]),
            Self::Aws => Some(&["table", "region", "endpoint", "kinesis-endpoint", "dynamodb-endpoint"]),
            Self::Job => Some(&[
                "inputs",
                "tasks",
                "start",
                "component",
                "commit-interval",
                "consumer",
                "out-of-range",
                "aggregates",
                "on-gap",
                "rewind-window",
                "outputs",
                "limits",
                "on-error",
                "config",
                "grants",
            ]),
            Self::Input => Some(&["stream", "from-job"]),
            Self::Output => Some(&["stream", "format"]),
            Self::Limits => Some(&[
                "memory",
                "batch-timeout",
                "batch-writes",
                "batch-outputs",
                "answer",
                "log-lines",
                "table-elements",
                "core-parts",
                "dead-letters",
                "dead-letter-bytes",
            ]),
            Self::OnError => Some(&["retries", "then"]),
            Self::Grants => Some(&["env", "http"]),
            Self::Named => None,
        }
    }

    /// Keys that a later version takes.
    fn later_keys(self) -> &'static [&'static str] {
        match self {
            Self::Root
            | Self::Job
            | Self::Host
            | Self::Aws
            | Self::Input
            | Self::Output
            | Self::Limits
            | Self::OnError
            | Self::Grants
            | Self::Named => &[],
        }
    }

    /// How people write it.
    fn title(self) -> &'static str {
        match self {
            Self::Root => "the top of the file",
            Self::Host => "[host]",
            Self::Aws => "[aws]",
            Self::Job => "[jobs.NAME]",
            Self::Input => "an input",
            Self::Output => "[jobs.NAME.outputs.X]",
            Self::Limits => "[jobs.NAME.limits]",
            Self::OnError => "[jobs.NAME.on-error]",
            Self::Grants => "[jobs.NAME.grants]",
            Self::Named => "[jobs]",
        }
    }

    /// Why a key is not taken; none if it is.
    pub fn refusal(self, key: &str) -> Option<String> {
        let keys = self.keys()?;
        if keys.contains(&key) {
            return None;
        }
        if self.later_keys().contains(&key) {
            return Some(format!("`{key}` is not available in this version; remove it"));
        }
        let nearest = keys.iter().map(|known| (likeness(key, known), *known)).max_by(|a, b| a.0.total_cmp(&b.0));
        let belongs = || Self::ALL.into_iter().find(|kind| kind.keys().is_some_and(|keys| keys.contains(&key)));
        Some(match nearest {
            Some((1.0.., known)) => format!("unknown key `{key}`; did you mean `{known}`?"),
            _ if let Some(kind) = belongs() => format!("unknown key `{key}`; it belongs in {}", kind.title()),
            Some((likeness, known)) if likeness >= SUGGESTION_SIMILARITY_MIN => {
                format!("unknown key `{key}`; did you mean `{known}`?")
            }
            Some(_) | None => format!("unknown key `{key}`; known here: {}", keys.join(", ")),
        })
    }
}

/// How near two keys are, whatever their case and whether their words are joined by `-` or `_`.
fn likeness(key: &str, known: &str) -> f64 {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '.'], "");
    strsim::jaro_winkler(&plain(key), &plain(known))
}

/// The nearest of the values that a key may have, to add to an error.
pub fn nearest_value(given: &str, values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    let nearest = values.iter().max_by(|a, b| likeness(given, a).total_cmp(&likeness(given, b)));
    match nearest {
        Some(value) if likeness(given, value) >= SUGGESTION_SIMILARITY_MIN => format!("did you mean {value:?}?"),
        Some(_) | None => format!("expected {}", quoted.join(" or ")),
    }
}
