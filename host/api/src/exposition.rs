//! The two text formats of metrics: OpenMetrics for those who accept it, else the older one of Prometheus, which names a
//! counter's series in its header and knows neither units nor an end.

use axum::http::{HeaderMap, header};

/// The media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that a request asks for.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let open = accepted.any(|accepted| accepted.contains(OPEN_METRICS));
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Metrics in this format, from OpenMetrics.
    pub fn of(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => prometheus(&text),
        }
    }
}

fn prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    // The header of a metric comes before its type is known.
    let mut help: Option<(&str, &str)> = None;
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| out.push_str(part));
        out.push('\n');
    };
    for given in text.lines() {
        if let Some(rest) = given.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = given.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                line(&["# HELP ", name, suffix, " ", help]);
            }
            line(&["# TYPE ", name, suffix, " ", kind]);
        } else if !given.starts_with('#') {
            line(&[given]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_as_their_series() {
        let open = "# HELP a_bytes Size.\n# TYPE a_bytes gauge\n# UNIT a_bytes bytes\na_bytes 1\n# HELP b Things.\n\
                    # TYPE b counter\nb_total{job=\"# x\"} 2\n# HELP c Who.\n# TYPE c info\nc_info{name=\"d\"} 1\n# EOF\n";
        let expected = "# HELP a_bytes Size.\n# TYPE a_bytes gauge\na_bytes 1\n# HELP b_total Things.\n\
                        # TYPE b_total counter\nb_total{job=\"# x\"} 2\n# HELP c_info Who.\n# TYPE c_info gauge\n\
                        c_info{name=\"d\"} 1\n";
        assert_eq!(Format::Prometheus.of(open.into()), expected);
        assert_eq!(Format::OpenMetrics.of(open.into()), open);
    }
}
