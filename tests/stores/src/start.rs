//! What it does before its first records, as `at-init` in its configuration says, word after word.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::wasi::config::store as config;
use crate::bindings::wasi::keyvalue0_2_0_draft2::{batch, store};
use crate::bindings::wasi::logging::logging::{Level, log};
use crate::bindings::wasi::random::random;
use crate::{Words, words};

thread_local! {
    /// What it saw, a line a word.
    static SAW: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Steps of `spin`: many times as long as a swap takes that does not wait for it.
const SPINS: u64 = 50_000_000;

pub fn begin() -> Result<(), Words> {
    let told = config::get("at-init").map_err(|error| format!("{error:?}"))?.unwrap_or_default();
    let saw: Result<Vec<String>, Words> = told.split(' ').filter(|word| !word.is_empty()).map(look).collect();
    SAW.set(saw?);
    Ok(())
}

/// What it saw then.
pub fn saw() -> String {
    SAW.with_borrow(|saw| saw.join("\n"))
}

fn look(at: &str) -> Result<String, Words> {
    let bucket = || store::open("default").map_err(words);
    let text = |value: Option<Vec<u8>>| value.map_or("nothing".into(), |value| String::from_utf8_lossy(&value).into());
    match at {
        "state" => bucket()?.get("count/ada").map_err(words).map(text),
        "absent" => match bucket()?.get("count/ada").map_err(words)? {
            None => Ok(String::new()),
            Some(_) => Err("count/ada is there".into()),
        },
        "several" => {
            let found = batch::get_many(&bucket()?, &["count/ada".into()]).map_err(words)?;
            Ok(found.into_iter().map(|(_, value)| text(value)).collect())
        }
        "list" => Ok(bucket()?.list_keys(None).map_err(words)?.keys.join(" ")),
        "time" => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or_else(|_| Err("before 1970".into()), |since| Ok(since.as_millis().to_string())),
        "chance" => Ok(random::get_random_u64().to_string()),
        "spin" => Ok((0..SPINS).fold(0, |sum, step| std::hint::black_box(sum ^ step)).to_string()),
        "log" => {
            log(Level::Info, "init", "it begins");
            Ok(String::new())
        }
        "mutter" => {
            print!("it begins, and");
            std::io::stdout().flush().map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        "print" => {
            println!("it begins, and prints");
            Ok(String::new())
        }
        _ => Err(format!("{at:?} is nothing to begin with")),
    }
}
