//! Groups the records of each partition key into sessions: a session is over when none came for a while.
//!
//! **Sessions.** A record belongs to its key's open session if it arrived at most the gap after the last one; else it
//! begins a new one. The gap is `gap-ms` of the configuration, 30,000 without it.
//!
//! **State.** `open/KEY`: the open session. `due/TIME KEY`: when each open session will be over, in order of time. One timer
//! is set for the first of them. `past/KEY 0x00 START`: the last three sessions of a key that are over.
//!
//! **Output.** To `sessions`, under the partition key, when a session is over: `START..LAST RECORDS`, with arrival times in
//! milliseconds since 1970.

use pelton_task::{Call, Context, Direction, Failure, Map, Record, Task, Timer};

/// The session that is open under a partition key: when it began, when its last record came, how many there were.
const OPEN: Map<str, [u8]> = Map::new("open/");
/// What will be over, by time and key.
const DUE: Map<[u8], [u8]> = Map::new("due/");
/// What is over, by key and time.
const PAST: Map<[u8], [u8]> = Map::new("past/");
/// Sessions kept of a key.
const KEPT: usize = 3;
/// The name of the one timer.
const NEXT: &str = "next";

/// A task that makes sessions.
pub struct Sessionize {
    gap_ms: u64,
}

#[derive(Clone, Copy)]
struct Session {
    start_ms: u64,
    last_ms: u64,
    records: u64,
}

impl Session {
    fn decode(bytes: &[u8]) -> Self {
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("a session has 24 bytes"));
        Self { start_ms: number(0), last_ms: number(8), records: number(16) }
    }

    fn encode(self) -> Vec<u8> {
        [self.start_ms, self.last_ms, self.records].map(u64::to_be_bytes).concat()
    }
}

impl Task for Sessionize {
    fn init(context: &Context) -> Result<Self, String> {
        let gap_ms = context.config("gap-ms").unwrap_or("30000");
        let gap_ms = gap_ms.parse().map_err(|_| format!("gap-ms is {gap_ms:?}, not a number of milliseconds"))?;
        Ok(Self { gap_ms })
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let (key, at_ms) = (record.partition_key(), record.arrived_ms());
        let open = OPEN.get(call, key)?.map(|bytes| Session::decode(&bytes));
        let mut session = Session { start_ms: at_ms, last_ms: at_ms, records: 0 };
        if let Some(open) = open {
            DUE.delete(call, &self.due_key(&open, key))?;
            match at_ms <= open.last_ms + self.gap_ms {
                true => session = open,
                false => close(call, key, &open)?,
            }
        }
        // Arrival times are not monotonic.
        session.last_ms = session.last_ms.max(at_ms);
        session.records += 1;
        OPEN.put(call, key, &session.encode())?;
        DUE.put(call, &self.due_key(&session, key), b"")?;
        self.wake_for_first(call)
    }

    fn on_timer(&mut self, _: &Timer, call: &mut Call) -> Result<(), Failure> {
        let now_ms = call.now_ms();
        let mut over = DUE.scan_range(call, &[], &(now_ms + 1).to_be_bytes(), Direction::Forward);
        while let Some((due_key, _)) = over.next(call)? {
            let key = std::str::from_utf8(&due_key[8..]).expect("partition keys are text").to_owned();
            let session = OPEN.get(call, &key)?.expect("what is due is open");
            close(call, &key, &Session::decode(&session))?;
            OPEN.delete(call, &key)?;
            DUE.delete(call, &due_key)?;
        }
        self.wake_for_first(call)
    }
}

pelton_task::export!(Sessionize);

impl Sessionize {
    /// A session is over when a record arriving then would not belong to it.
    fn due_key(&self, session: &Session, key: &str) -> Vec<u8> {
        [&(session.last_ms + self.gap_ms + 1).to_be_bytes()[..], key.as_bytes()].concat()
    }

    fn wake_for_first(&self, call: &mut Call) -> Result<(), Failure> {
        match DUE.scan(call, Direction::Forward).next(call)? {
            Some((due_key, _)) => {
                call.set_timer(NEXT, u64::from_be_bytes(due_key[..8].try_into().expect("it begins with a time")));
            }
            None => call.cancel_timer(NEXT),
        }
        Ok(())
    }
}

/// A session is over: it is told, and kept among the last ones of its key.
fn close(call: &mut Call, key: &str, session: &Session) -> Result<(), Failure> {
    let text = format!("{}..{} {}", session.start_ms, session.last_ms, session.records);
    call.emit("sessions", key, text.as_bytes())?;
    let past = |time: u64| [key.as_bytes(), &[0], &time.to_be_bytes()].concat();
    PAST.put(call, &past(session.start_ms), &session.encode())?;
    let mut newest_first = PAST.scan_range(call, &past(0), &past(u64::MAX), Direction::Back);
    let mut kept = 0;
    while let Some((past_key, _)) = newest_first.next(call)? {
        kept += 1;
        if kept > KEPT {
            PAST.delete(call, &past_key)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
