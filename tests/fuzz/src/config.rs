//! Configurations: resolved with every value in range, or refused with each fault in its line.

use std::path::Path;

use pelton_cli::config::{Config, ConfigErrors, resolve};

/// The text of a file.
pub fn config(data: &[u8]) {
    // What is no text is refused when the file is read.
    let Ok(text) = std::str::from_utf8(data) else { return };
    match resolve(Path::new("no-such-folder/pelton.toml"), text) {
        Ok(config) => check_resolved(&config),
        Err(errors) => check_refused(&errors, text),
    }
}

fn check_resolved(config: &Config) {
    let host = &config.host;
    assert!(host.listen.ip().is_loopback(), "there is no token here, and {} is open to others", host.listen);
    assert!(!host.name.is_empty() && !config.aws.table.is_empty());
    for (name, job) in &config.jobs {
        assert!(!name.is_empty() && !name.contains(|c: char| c.is_control() || c.is_whitespace()), "a job {name:?}");
        assert!((1..=64).contains(&job.inputs.len()), "{} inputs", job.inputs.len());
        assert_eq!(job.inputs.len(), job.settings.from_job.len(), "an input without its say");
        assert!((1..=65_536).contains(&job.tasks.get()));
        assert!((10..=60_000).contains(&job.settings.commit_interval_ms));
        assert!((10..=600_000).contains(&job.limits.batch_timeout_ms));
        assert!(job.settings.retries <= 100);
        assert!(job.outputs.iter().all(|(name, output)| !name.is_empty() && !output.stream.is_empty()));
    }
}

fn check_refused(errors: &ConfigErrors, text: &str) {
    assert!(!errors.is_empty(), "refused without a fault");
    assert!(errors.errors.is_sorted_by_key(|error| error.line), "{errors}");
    // A fault at the end of a text that ends with a newline is in the line behind it.
    let lines = text.split('\n').count();
    for error in &errors.errors {
        let of_the_whole = error.message.starts_with("the file cannot be read as TOML: ");
        assert!(
            error.line.map_or(of_the_whole, |line| (1..=lines).contains(&line)),
            "in line {:?} of {lines}: {}",
            error.line,
            error.message
        );
        assert!(!error.message.is_empty(), "line {:?} is wrong, and nobody says why", error.line);
        assert!(!error.message.contains(|c: char| c.is_control()), "{:?} is not one line of text", error.message);
    }
    let told = errors.to_string();
    assert_eq!(told.lines().count(), errors.errors.len(), "{told}");
    assert!(told.lines().all(|line| line.starts_with("no-such-folder/pelton.toml:")), "{told}");
}
