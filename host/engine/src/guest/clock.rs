//! What a guest observes of time and chance: its invocation's time, and random numbers from its seed. Neither depends on the
//! machine, so a stretch of calls can be made again with the same outcome. Nobody waits here, but for who calls others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use super::instance::HostState;
use super::limits::HTTP_CALLS_MAX;

/// What changes with each invocation.
#[derive(Debug)]
pub struct Ambient {
    time_ms: AtomicU64,
    monotonic_ns: AtomicU64,
    random: AtomicU64,
    /// The guest runs ahead of an invocation.
    ahead: AtomicBool,
    /// It asked for what only the invocation can tell.
    asked: AtomicBool,
    /// Room for outbound calls; one under way has taken its place.
    pub(super) calls: Arc<Semaphore>,
}

impl Default for Ambient {
    fn default() -> Self {
        let (time_ms, monotonic_ns, random) = Default::default();
        let (ahead, asked) = Default::default();
        Self { time_ms, monotonic_ns, random, ahead, asked, calls: Arc::new(Semaphore::new(HTTP_CALLS_MAX)) }
    }
}

impl Ambient {
    /// Begins an invocation at a time, with a seed.
    pub fn begin(&self, time_ms: u64, seed: u64) {
        self.time_ms.store(time_ms, Ordering::Relaxed);
        self.ahead.store(false, Ordering::Relaxed);
        let time_ns = time_ms.saturating_mul(1_000_000);
        self.monotonic_ns.fetch_max(time_ns, Ordering::Relaxed);
        self.random.store(seed, Ordering::Relaxed);
    }

    /// Begins what may be of any invocation, whichever comes.
    pub(super) fn begin_ahead(&self) {
        self.ahead.store(true, Ordering::Relaxed);
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Whether the guest did without an invocation. Until one begins nothing it says is told: it may be gone before.
    pub(super) fn needs_none(&self) -> bool {
        !self.asked.load(Ordering::Relaxed)
    }

    /// The guest asks for what depends on the invocation, or is told to others as of it. Returns whether there is one.
    pub(super) fn is_invoked(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        !self.ahead.load(Ordering::Relaxed)
    }

    /// Moves on by being read, so that nothing a guest measures depends on the machine.
    fn read_ns(&self) -> u64 {
        self.asked.store(true, Ordering::Relaxed);
        self.monotonic_ns.fetch_add(1_000, Ordering::Relaxed)
    }
}

/// Both clocks.
pub(super) struct Clock(pub(super) Arc<Ambient>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0.asked.store(true, Ordering::Relaxed);
        Duration::from_millis(self.0.time_ms.load(Ordering::Relaxed))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.read_ns()
    }
}

/// SplitMix64 from the invocation's seed.
pub(super) struct Seeded(pub(super) Arc<Ambient>);

impl Seeded {
    fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        self.0.asked.store(true, Ordering::Relaxed);
        let mut state = self.0.random.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^ (state >> 31)
    }
}

impl rand_core::TryRng for Seeded {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A time that a guest waits for. It comes by being waited for: the guest's clock jumps there, and no thread sleeps. Only with
/// an outbound call under way does it come no sooner than by the machine's clock, or no answer would ever be in time.
struct Moment {
    ambient: Arc<Ambient>,
    due_ns: u64,
    /// When it comes by the machine's clock, since it was first waited for beside a call.
    comes: Option<Instant>,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Moment {
    async fn ready(&mut self) {
        if self.ambient.calls.available_permits() < HTTP_CALLS_MAX {
            let left_ns = self.due_ns.saturating_sub(self.ambient.monotonic_ns.load(Ordering::Relaxed));
            sleep_until(*self.comes.get_or_insert_with(|| Instant::now() + Duration::from_nanos(left_ns))).await;
        }
        self.ambient.asked.store(true, Ordering::Relaxed);
        self.ambient.monotonic_ns.fetch_max(self.due_ns, Ordering::Relaxed);
    }
}

impl monotonic_clock::Host for HostState {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.ambient.read_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let moment = self.resources.push(Moment { ambient: self.ambient.clone(), due_ns: when, comes: None })?;
        subscribe(&mut self.resources, moment)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let due_ns = self.ambient.read_ns().saturating_add(duration);
        monotonic_clock::Host::subscribe_instant(self, due_ns)
    }
}
