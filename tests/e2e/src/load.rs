//! Records put all the while that something else happens to their stream: in each round one of each key, with its number in
//! it, as the `ledger` task wants them. A round is put after the one before was taken, so a key's order is that of its numbers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::Runtime;

use crate::process::wait_for;
use crate::streams::{self, Entry};

const LIMIT: Duration = Duration::from_secs(60);

/// How much is put.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Keys, and so records of a round.
    pub keys: u64,
    /// Between two rounds.
    pub pause: Duration,
    /// Rounds beyond those that were waited for, after which it waits too: a slow server is given no more than it bears.
    pub ahead_max: u64,
}

/// A load that goes on until it is stopped.
#[derive(Debug)]
pub struct Load {
    pace: Pace,
    rounds: Arc<AtomicU64>,
    rounds_max: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<BTreeSet<String>>>,
}

/// What was put in the end.
#[derive(Debug)]
pub struct Put {
    /// Rounds: the number of each key's last record, whose first is 1.
    pub rounds: u64,
    /// The shards that took some of it.
    pub shards: BTreeSet<String>,
}

impl Load {
    /// Begins to put records into a stream of the Kinesis at an address.
    ///
    /// # Errors
    /// When there is no runtime for it.
    pub fn begin(kinesis: &str, stream: &str, pace: Pace) -> Result<Self> {
        Self::begin_with(kinesis, stream, pace, |round| round.to_string().into_bytes())
    }

    /// The same with other data in each record than the number of its round.
    ///
    /// # Errors
    /// When there is no runtime for it.
    pub fn begin_with(
        kinesis: &str,
        stream: &str,
        pace: Pace,
        mut data: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let (rounds, rounds_max) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(pace.ahead_max)));
        let is_over = Arc::new(AtomicBool::new(false));
        let (client, stream, runtime) = (streams::client(kinesis), stream.to_owned(), Runtime::new()?);
        let (put, put_max, told) = (rounds.clone(), rounds_max.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let (mut shards, mut round) = (BTreeSet::new(), 0);
            while !told.load(Ordering::Acquire) {
                if round < put_max.load(Ordering::Acquire) {
                    round += 1;
                    let records = (0..pace.keys).map(|key| (format!("key{key}"), data(round)));
                    let records: Vec<Entry> = records.collect();
                    shards.extend(runtime.block_on(streams::put_into(&client, &stream, &records))?);
                    put.store(round, Ordering::Release);
                }
                std::thread::sleep(pace.pause);
            }
            Ok(shards)
        });
        Ok(Self { pace, rounds, rounds_max, is_over, thread })
    }

    /// Waits until so many more rounds were put.
    ///
    /// # Errors
    /// When the load ended before, or that takes too long.
    pub fn pass(&self, rounds: u64) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Acquire) + rounds;
        self.rounds_max.store(wanted + self.pace.ahead_max, Ordering::Release);
        wait_for("the load to go on", LIMIT, || {
            let is_there = self.rounds.load(Ordering::Acquire) >= wanted;
            anyhow::ensure!(is_there || !self.thread.is_finished(), "the load has ended");
            Ok(is_there.then_some(()))
        })
    }

    /// Puts no more, and says what was put.
    ///
    /// # Errors
    /// When something of it could not be put.
    pub fn end(self) -> Result<Put> {
        self.is_over.store(true, Ordering::Release);
        let shards = self.thread.join().map_err(|_| anyhow!("the load panicked"))?.context("putting the load")?;
        Ok(Put { rounds: self.rounds.load(Ordering::Acquire), shards })
    }
}
