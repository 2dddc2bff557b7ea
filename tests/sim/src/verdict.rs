//! One seed from its first record to the verdict: traffic and trouble, then healing, then the checks of the end.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use pelton_core::id::TaskId;

use crate::mutants::Mutant;
use crate::promise::{Promise, Wrong};
use crate::shape::Coverage;
use crate::trace::{self, trace};
use crate::world::{HANG_MS, World};

/// While one task hangs all others must be done after so long, milliseconds.
const OUTRUN_MS: u64 = 300_000;
const _: () = assert!(OUTRUN_MS < HANG_MS);
/// Without trouble a world comes to rest within so many steps,
const STEPS_BASE: u64 = 60_000;
/// and so many more for each record that was left.
const STEPS_PER_RECORD: u64 = 200;
/// After so long without trouble everything must be folded and published, milliseconds.
const HEALED_MS: u64 = 900_000;

/// Lines of its trace that a failure shows.
const LAST_LINES: usize = 25;

/// A world in which a promise was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which world.
    pub seed: u64,
    /// What was made wrong on purpose, if anything.
    pub mutant: Option<Mutant>,
    /// The promise.
    pub promise: Promise,
    /// What was seen.
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, _) = traced(self.seed, self.mutant);
        let lines: Vec<&str> = trace.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "seed {}: invariant {}: {}", self.seed, self.promise, self.what)?;
        write!(f, "replay: cargo run --bin pelton-sim -- --seed {} --verbose", self.seed)?;
        match self.mutant.and_then(|mutant| Mutant::all().into_iter().find(|(_, known)| *known == mutant)) {
            Some((name, _)) => write!(f, " --mutant {name}"),
            None => Ok(()),
        }
    }
}

thread_local! {
    /// Where the world of this thread panicked last; none while there is no world.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a seed.
///
/// # Errors
/// When a promise is broken.
pub fn run_seed(seed: u64, mutant: Option<Mutant>) -> Result<Coverage, Failure> {
    run(seed, mutant, false)
}

/// Runs a seed and keeps a line of everything that happens.
pub fn traced(seed: u64, mutant: Option<Mutant>) -> (String, Result<Coverage, Failure>) {
    trace::begin();
    let outcome = run(seed, mutant, true);
    (trace::end(), outcome)
}

fn run(seed: u64, mutant: Option<Mutant>, traced: bool) -> Result<Coverage, Failure> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let simulated = PLACE.with_borrow_mut(|place| {
                let simulated = place.is_some();
                *place = place.is_some().then(|| info.location().map(ToString::to_string).unwrap_or_default());
                simulated
            });
            if !simulated {
                usual(info);
            }
        }));
    });
    let rule = if let Some(Mutant::Rule(rule)) = mutant { Some(rule) } else { None };
    pelton_core::mutant::choose(rule);
    PLACE.set(Some(String::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| live(seed, mutant, traced)));
    let place = PLACE.take().unwrap_or_default();
    outcome.map_err(|panic| {
        let Wrong { promise, what } = match panic.downcast::<Wrong>() {
            Ok(wrong) => *wrong,
            Err(panic) => Wrong { promise: Promise::Assertion, what: format!("{} ({place})", text(&*panic)) },
        };
        Failure { seed, mutant, promise, what }
    })
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".into())
}

fn live(seed: u64, mutant: Option<Mutant>, traced: bool) -> Coverage {
    let mut world = World::new(seed, mutant, traced);
    trace!(world, "{:#?}", world.shape);
    world.run(world.traffic_until, |_| false);

    let heir = world.rng.below(world.hosts.len() as u64) as usize;
    trace!(world, "from here on nothing goes wrong, and host {heir} is alone");
    world.heal(heir);
    world.outrun(heir);
    world.finish(heir);
    // Calls that were given up long ago may still arrive; nothing changes by them.
    world.run(world.now + 60_000, |_| false);
    world.settle(heir, "a host goes on once nothing goes wrong");
    let verdict = world.oracle.complete();
    world.check(verdict);
    world.check_states(heir, "the log and a local copy");

    world.crash(heir);
    let newcomer = world.add_host();
    world.heal(newcomer);
    world.settle(newcomer, "a new host restores every task");
    world.check_states(newcomer, "the log alone");
    let verdict = world.oracle.complete();
    world.check(verdict);
    world.cover.commits = world.oracle.commits();
    let (fates, lost) = world.oracle.fates();
    world.cover.dead_letters = fates.dead_letters;
    world.cover.redriven = fates.redriven;
    world.cover.dropped = fates.dropped_records();
    world.cover.malformed = fates.malformed;
    world.cover.timers_fired = fates.timers_fired;
    world.cover.lost = lost;
    world.cover
}

impl World {
    /// In some worlds the calls of one task hang: all others must get on.
    fn outrun(&mut self, heir: usize) {
        let tasks = self.meta.tasks.get();
        if tasks == 1 || self.shape.retention_ms.is_some() || !self.rng.chance(3_000) {
            return;
        }
        let hung = TaskId(self.rng.below(u64::from(tasks)) as u16);
        trace!(self, "calls of task {hung} hang");
        self.cover.hung_tasks += 1;
        self.hung = Some(hung);
        let others_are_done = |world: &mut Self| {
            let mut others = world.meta.tasks.tasks().filter(|task| *task != hung);
            others.all(|task| world.oracle.unfinished_of(task).is_none())
        };
        let until = self.now + OUTRUN_MS;
        let done = self.run(until, others_are_done);
        self.must(done, || format!("no task waits for another: task {hung} hangs, {}", self.standstill(heir)));
        self.hung = None;
    }

    /// Everything is folded and published in the end, within bounds of time and steps.
    fn finish(&mut self, heir: usize) {
        // What no reader brings by now is gone.
        let mourning = self.now + HEALED_MS / 2;
        let (began, left) = (self.steps, self.oracle.outstanding());
        let settled = self.run(self.now + HEALED_MS, |world| {
            if world.now > mourning && world.oracle.unfinished().is_some() && world.all_run(heir) {
                world.oracle.mourn(&world.kinesis);
            }
            world.oracle.unfinished().is_none() && world.all_run(heir)
        });
        let unfinished = self.oracle.unfinished().unwrap_or_else(|| "some task does not run".into());
        self.must(settled, || {
            format!("all is folded and published in the end: {unfinished}, {}", self.standstill(heir))
        });
        let (steps, steps_max) = (self.steps - began, STEPS_BASE + left * STEPS_PER_RECORD);
        self.must(steps <= steps_max, || format!("{left} records are folded in {steps_max} steps, not {steps}"));
    }

    /// Lets a host go on until it has nothing to do.
    fn settle(&mut self, host: usize, must: &str) {
        let settled = self.run(self.now + HEALED_MS, |world| world.all_run(host));
        self.must(settled, || format!("{must}: {}", self.standstill(host)));
    }

    fn must(&self, live: bool, what: impl FnOnce() -> String) {
        if !live {
            resume_unwind(Box::new(Wrong { promise: Promise::Liveness, what: what() }));
        }
    }

    /// Whether every task runs on a host, with nothing to do.
    fn all_run(&self, host: usize) -> bool {
        self.meta.tasks.tasks().all(|task| {
            let instance = self.hosts[host].tasks.get(&task).filter(|instance| instance.ready);
            let running = instance.and_then(|instance| instance.task.running());
            let is_quiet = running.is_some_and(|running| !running.is_busy() && running.outbox().is_empty());
            is_quiet && !self.oracle.is_overdue(task, self.host_now(host))
        }) && self.upstream.iter().all(crate::upstream::Upstream::is_done)
    }

    fn check_states(&self, host: usize, how: &str) {
        for task in self.meta.tasks.tasks() {
            self.check(self.oracle.restored(task, &self.hosts[host].stores[&task].state, how));
        }
    }

    /// Which tasks do not get on.
    fn standstill(&self, host: usize) -> String {
        let describe = |task: TaskId| {
            let Some(instance) = self.hosts[host].tasks.get(&task) else { return format!("task {task} is not there") };
            let running = instance.task.running();
            let positions = running.map(|running| {
                let intake = running.intake();
                intake.positions().map(|(shard, entry)| format!("{shard} {}", entry.position)).collect::<Vec<_>>()
            });
            format!("task {task} is {:?} at {positions:?}", instance.task.phase())
        };
        self.meta.tasks.tasks().map(describe).collect::<Vec<_>>().join("; ")
    }
}
