//! A task that reaches for what it may be granted. Each record says for what, as in `get http://127.0.0.1:80/`, and under that
//! text its state has what came of it.

#![cfg(target_arch = "wasm32")]

mod calls;

use pelton_task::{Call, Context, Failure, Record, Task};

/// A task that reaches for more.
pub struct Caller {
    /// What came of a call while it began, if it was told to make one.
    at_start: String,
}

impl Task for Caller {
    fn init(context: &Context) -> Result<Self, String> {
        let at_start = context.config("at-start").map(calls::get);
        Ok(Self { at_start: at_start.unwrap_or_default() })
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let text = std::str::from_utf8(record.data()).map_err(|_| Failure::poison("no text"))?;
        let (what, of) = text.split_once(' ').unwrap_or((text, ""));
        let came = match what {
            "at-start" => self.at_start.clone(),
            "variable" => std::env::var(of).unwrap_or_else(|_| "absent".into()),
            "variables" => std::env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(","),
            "config" => call.context().config(of).unwrap_or("absent").to_owned(),
            "memory" => memory(of),
            "get" => calls::get(of),
            "get-or-fail" => calls::get_or_fail(of).map_err(Failure::retry)?,
            "race" => calls::race(of),
            "upload" => calls::upload(of),
            "crowd" => calls::crowd(of),
            "unsent" => calls::unsent(),
            "spin" => calls::spin(of),
            "leave" => calls::leave(of),
            "hoard" => calls::hoard(),
            "fields" => calls::fields(),
            _ => return Err(Failure::poison("nobody knows how")),
        };
        call.put(text.as_bytes(), came.as_bytes())
    }
}

/// Takes so many MiB, one after another.
fn memory(mib: &str) -> String {
    let count: usize = mib.parse().unwrap_or_default();
    let held: Vec<Vec<u8>> = (0..count).map(|_| std::hint::black_box(vec![1; 1 << 20])).collect();
    held.len().to_string()
}

pelton_task::export!(Caller);
