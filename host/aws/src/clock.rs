//! Time by the services' clock: the `Date` of a reply plus what passed since on this machine's monotonic clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::{DateTime, Format};
use pelton_engine::ports::Clock;

/// Time by the services' clock; by this machine's until the first reply.
#[derive(Debug, Default)]
pub struct ServiceClock {
    /// Milliseconds since 1970 at an instant.
    known: Mutex<Option<(u64, Instant)>>,
    /// The latest time told: it never falls.
    told_ms: AtomicU64,
}

impl ServiceClock {
    /// Takes the date of a reply. Dates have whole seconds, so one is taken only where it says later than what was known.
    fn learn(&self, date_ms: u64) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let reckoned_ms = known.map(|(ms, at)| ms + now.duration_since(at).as_millis() as u64);
        if reckoned_ms.is_none_or(|reckoned_ms| date_ms > reckoned_ms) {
            *known = Some((date_ms, now));
        }
    }
}

impl Clock for ServiceClock {
    fn now_ms(&self) -> u64 {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = match known {
            Some((ms, at)) => ms + at.elapsed().as_millis() as u64,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        };
        self.told_ms.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }
}

/// Reads the date of every reply.
#[derive(Debug)]
pub(crate) struct DateReader {
    clock: Arc<ServiceClock>,
}

impl DateReader {
    pub(crate) fn new(clock: Arc<ServiceClock>) -> Self {
        Self { clock }
    }
}

impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        if let Some(ms) = date.and_then(|date| u64::try_from(date.to_millis().ok()?).ok()) {
            self.clock.learn(ms);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_latest_date_and_never_falls() {
        let clock = ServiceClock::default();
        let ours_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        // Far behind this machine's clock, which nobody has asked for yet.
        clock.learn(1_000_000);
        let first_ms = clock.now_ms();
        assert!((1_000_000..1_000_000 + 60_000).contains(&first_ms), "{first_ms} is not by the date");
        clock.learn(900_000);
        assert!(clock.now_ms() >= first_ms, "an older date changes nothing");
        clock.learn(2_000_000);
        assert!((2_000_000..2_000_000 + 60_000).contains(&clock.now_ms()));

        // Before the first reply it is this machine's, and stays there until the services' has come so far.
        let clock = ServiceClock::default();
        let told_ms = clock.now_ms();
        assert!(told_ms >= ours_ms);
        clock.learn(told_ms - 3_600_000);
        assert!(clock.now_ms() >= told_ms);
    }
}
