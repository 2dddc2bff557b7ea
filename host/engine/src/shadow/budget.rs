//! What time a shadow may take: a share of what the task's own calls take. A task that has nothing saved may be lent one window by
//! the others of its job, so that windows come soon however many tasks there are; it has the next when it has paid that back. So the
//! job never gives more than the share, and a task is never ahead by more than a window.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The share at which every call is compared, whatever it takes.
const SHARE_ALL: u32 = 100;
/// What a shadow's call is given at least.
const CALL_LIMIT_MIN: Duration = Duration::from_millis(20);
/// And how many times as long as the task's own call.
const CALL_LIMIT_FACTOR: u32 = 4;
/// Calls for which a window is worth its births.
const WINDOW_CALLS: i64 = 4;
/// How many times as much as its births goes into a window's calls.
const WINDOW_BIRTHS: i64 = 3;
/// Windows that a task saves for at most.
const SAVED_WINDOWS: i64 = 8;
/// What the births of a window are taken to cost before there was one, in nanoseconds.
const BIRTHS_NS: i64 = 400_000;

/// What the tasks of a job have to spend together, in nanoseconds.
pub type Purse = Arc<AtomicI64>;

/// How long the instances took to be born with which a window begins.
#[derive(Clone, Copy, Debug)]
pub struct Births {
    /// The shadow's.
    pub shadow: Duration,
    /// The task's own.
    pub own: Duration,
}

/// What one task has to spend, in nanoseconds.
#[derive(Debug)]
pub struct Budget {
    share_percent: u32,
    purse: Purse,
    /// Below zero what the task owes.
    saved: i64,
    /// What is left of what a window was given.
    window: Option<i64>,
    /// What a call is expected to cost.
    call: i64,
    is_measured: bool,
    /// What both instances are expected to cost with which a window begins.
    births: i64,
    /// What one of them is expected to cost when it is taken down.
    end: i64,
}

impl Budget {
    /// A share in percent, with what all tasks of the job have.
    pub fn new(share_percent: u32, purse: Purse) -> Self {
        Self { share_percent, purse, saved: 0, window: None, call: 0, is_measured: false, births: BIRTHS_NS, end: 0 }
    }

    fn is_unlimited(&self) -> bool {
        self.share_percent >= SHARE_ALL
    }

    /// A window: its births, the task's own among them, the end of the shadow and of the task's own before it, and some calls.
    fn window_costs(&self) -> i64 {
        self.births + 2 * self.end + (WINDOW_CALLS * self.call).max(WINDOW_BIRTHS * self.births)
    }

    /// The task's own call took so long, without the birth of its instance.
    pub fn earn(&mut self, took: Duration) {
        let took = nanoseconds(took);
        if !self.is_measured {
            self.call = average(self.call, took);
        }
        let earned = (took / 100).saturating_mul(self.share_percent.into());
        let before = self.saved;
        self.saved = before.saturating_add(earned).min(before.max(SAVED_WINDOWS * self.window_costs()));
        self.purse.fetch_add(self.saved - before, Ordering::Relaxed);
    }

    /// Has a window if there is enough for one, and sets it apart.
    pub fn take_window(&mut self) -> bool {
        if self.saved < 0 {
            return false;
        }
        let costs = if self.is_unlimited() { 0 } else { self.window_costs() };
        let take = |purse: i64| (purse >= costs).then(|| purse - costs);
        let is_taken =
            self.is_unlimited() || self.purse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if is_taken {
            self.window = Some(costs);
        }
        is_taken
    }

    /// A call of the shadow, and all that came with it, cost so much: its birth among it, if it began a window, for which the task's own
    /// instance was born anew too. Whether it ended as the task's did.
    pub fn spend(&mut self, took: Duration, births: Option<Births>, agrees: bool) {
        let took = nanoseconds(took);
        let (shadow, own) = births.map_or((0, 0), |births| (nanoseconds(births.shadow), nanoseconds(births.own)));
        self.births = births.map_or(self.births, |_| average(self.births, shadow + own));
        let call = took - shadow;
        self.call = if self.is_measured { average(self.call, call) } else { call };
        self.is_measured = true;
        let costs = took + own;
        self.saved -= costs;
        if self.is_unlimited() && agrees {
            self.saved = self.saved.max(0);
        }
        self.window = self.window.map(|left| left - costs);
    }

    /// An instance was taken down: the task's own, for a window to begin, or the shadow's.
    pub fn spend_end(&mut self, took: Duration) {
        let costs = nanoseconds(took);
        self.end = average(self.end, costs);
        self.saved -= costs;
        self.window = self.window.map(|left| left - costs);
    }

    /// Whether the window may have another call.
    pub fn has_call(&self) -> bool {
        let left = self.window.unwrap_or(0).max(self.saved);
        self.is_unlimited() || left >= self.call
    }

    /// The window is over: what it left is the job's again, or what it took beyond.
    pub fn end_window(&mut self) {
        let left = self.window.take().unwrap_or(0);
        self.purse.fetch_add(left, Ordering::Relaxed);
    }
}

/// How long a shadow's call may last, in milliseconds, where the task's own took so long.
pub fn limit_ms(took: Duration) -> u64 {
    (took * CALL_LIMIT_FACTOR).max(CALL_LIMIT_MIN).as_millis().try_into().unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> i64 {
    duration.as_nanos().try_into().unwrap_or(i64::MAX / 1_000)
}

/// One that follows what changes.
fn average(before: i64, now: i64) -> i64 {
    if before == 0 { now } else { before + (now - before) / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// What it takes to take down an instance.
    const END: Duration = Duration::from_micros(80);
    const BIRTHS: Births = Births { shadow: Duration::from_micros(100), own: Duration::from_micros(100) };

    /// So many calls of the task's own, a millisecond each, with a shadow whose calls take so long and disagree or not. Returns the
    /// shadow's part of the time, and how many calls of it there were.
    fn run(share: u32, calls: u32, shadow: Duration, agrees: bool) -> (f64, u32) {
        run_with(share, calls, shadow, (BIRTHS, agrees))
    }

    fn run_with(share: u32, calls: u32, shadow: Duration, (births, agrees): (Births, bool)) -> (f64, u32) {
        let (mut budget, mut open, mut spent, mut compared) =
            (Budget::new(share, Purse::default()), false, Duration::ZERO, 0);
        for _ in 0..calls {
            budget.earn(MS);
            if !open && budget.take_window() {
                open = true;
                budget.spend_end(END);
                spent += END;
                budget.spend(births.shadow + shadow, Some(births), agrees);
                spent += births.shadow + births.own + shadow;
            } else if open {
                budget.spend(shadow, None, agrees);
                spent += shadow;
            } else {
                continue;
            }
            compared += 1;
            if !agrees || !budget.has_call() {
                budget.spend_end(END);
                spent += END;
                budget.end_window();
                open = false;
            }
        }
        (spent.as_secs_f64() / f64::from(calls) / MS.as_secs_f64(), compared)
    }

    #[test]
    fn a_shadow_takes_its_share_and_no_more_whatever_its_calls_take() {
        for shadow in [MS / 2, MS, 2 * MS, 25 * MS] {
            for agrees in [true, false] {
                let (part, compared) = run(5, 20_000, shadow, agrees);
                assert!((0.03..0.052).contains(&part), "{shadow:?} {agrees}: {part}");
                assert!(compared > 10, "{shadow:?} {agrees}: {compared}");
            }
        }
    }

    #[test]
    fn what_the_tasks_own_instance_costs_to_be_born_anew_is_paid_for() {
        for (own, shadow) in [(20 * MS, MS / 100), (MS / 100, 20 * MS), (400 * MS, MS / 100)] {
            let (part, compared) = run_with(5, 100_000, MS, (Births { shadow, own }, true));
            assert!((0.03..0.055).contains(&part) && compared > 10, "{own:?} {shadow:?}: {part}, {compared}");
        }
    }

    #[test]
    fn with_the_whole_share_every_call_is_compared_while_they_agree() {
        assert_eq!(run(SHARE_ALL, 1_000, 3 * MS, true).1, 1_000);
        let (part, _) = run(SHARE_ALL, 10_000, 25 * MS, false);
        assert!(part < 1.01, "{part}");
    }

    #[test]
    fn one_task_is_lent_a_window_by_the_others_and_pays_it_back() {
        let purse = Purse::default();
        let mut tasks: Vec<Budget> = (0..100).map(|_| Budget::new(5, purse.clone())).collect();
        tasks.iter_mut().for_each(|task| (0..10).for_each(|_| task.earn(2 * MS)));
        assert!(tasks[0].take_window());
        tasks[0].spend(8 * MS, Some(BIRTHS), true);
        assert!(!tasks[0].has_call());
        tasks[0].end_window();
        assert!(!tasks[0].take_window(), "it owes");
        assert!(tasks[1].take_window());
        let left: i64 = tasks.iter().map(|task| task.saved).sum();
        assert_eq!(purse.load(Ordering::Relaxed), left - tasks[1].window.unwrap());
    }

    #[test]
    fn a_call_that_loops_is_cut_off_soon() {
        assert_eq!([limit_ms(MS), limit_ms(10 * MS)], [20, 40]);
    }
}
