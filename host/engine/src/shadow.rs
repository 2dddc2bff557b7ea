//! A shadow: another deployment's instance that is called beside a task's own, right after it and with the very same, and nothing of
//! which is kept but what it did otherwise. It has the task's thread meanwhile, so it is given a share of what the task's calls take.
//!
//! What a call does depends on what its instance was called with since its birth. So a shadow runs in *windows*: at a commit both
//! sides begin with new instances and the same state, and go on together until the share is used up, or they can no longer.

mod budget;
mod compare;
pub mod findings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_core::rollout::Shadow;
use pelton_core::task::{Call, CallOutcome, Event, Failure, FailureKind, Given};
use pelton_core::write_set::WriteSet;

use crate::call::failure;
use crate::cell::{TaskCell, Work, lock};
use crate::deploy::Deployed;
use crate::guest::{Guest, GuestFault, Identity, Invocation, View};
use crate::scheduler::time_on_core;
use budget::{Births, Budget};
use compare::Room;
use findings::{EXAMPLES_MAX, Findings, Found};

pub(crate) use budget::Purse;

/// Keys of a task that may differ while a window goes on.
const OVERLAY_KEYS_MAX: usize = 4_096;
/// Bytes of the overlays of all tasks of a job.
const OVERLAYS_BYTES_MAX: usize = 64 << 20;
/// And of each, however many tasks there are.
const OVERLAY_BYTES_MIN: usize = 256 << 10;

/// The shadow of one task.
pub(crate) struct Shadowing {
    deployed: Arc<Deployed>,
    identity: Identity,
    budget: Budget,
    room: Room,
    /// A window was asked for, and begins with the task's next new instance.
    asked: bool,
    window: Option<Window>,
}

/// Calls that are compared, one after another.
#[derive(Default)]
struct Window {
    /// Where the shadow's state differs.
    overlay: Arc<WriteSet>,
    guest: Option<Guest>,
    /// It has had a call.
    begun: bool,
}

/// A call of the task's own, made.
struct Made<'o> {
    took: Duration,
    /// How much of it its instance took to be born.
    birth: Duration,
    outcome: &'o CallOutcome,
    memory_bytes: u64,
}

impl Made<'_> {
    /// It was not made, for want of an instance.
    fn lacked_room(&self) -> bool {
        matches!(self.outcome, CallOutcome::Failed(failure) if failure.kind == FailureKind::NoRoom)
    }
}

/// What became of a call of the shadow.
enum Came {
    To(CallOutcome, Option<Guest>),
    /// It took longer than this, in milliseconds.
    Late(u64),
    /// There is no instance to be had, and that is nothing it did.
    Not(String),
}

impl Shadowing {
    fn new(cell: &TaskCell, deployed: Arc<Deployed>, shadow: Shadow, purse: Purse) -> Self {
        let of = deployed.identity(cell.id);
        let log = Arc::new(of.log.for_shadow());
        let identity = Identity { log, granted: deployed.granted_to_shadow.clone(), ..of.clone() };
        let tasks = cell.spec().meta.tasks.get() as usize;
        Self {
            budget: Budget::new(shadow.share_percent, purse),
            room: Room { keys: OVERLAY_KEYS_MAX, bytes: (OVERLAYS_BYTES_MAX / tasks).max(OVERLAY_BYTES_MIN) },
            asked: false,
            window: None,
            deployed,
            identity,
        }
    }

    /// A call is about to be made. Gives it again if the shadow is to make it too.
    pub fn joins(&mut self, call: &Call) -> Option<Call> {
        if call.born && self.asked {
            self.asked = false;
            self.window = Some(Window::default());
        }
        let window = self.window.as_mut()?;
        if call.born {
            window.guest = None;
        }
        Some(call.clone())
    }

    /// Whether the task is to begin with a new instance, for a window.
    fn asks(&mut self) -> bool {
        let asks = self.window.is_none() && !self.asked && self.budget.take_window();
        self.asked |= asks;
        asks
    }

    /// The task begins anew, with another state: nothing that was compared before says anything of it.
    pub fn begin_anew(&mut self) {
        if let Some(window) = self.window.take() {
            self.end(window);
        }
    }

    /// The task has stopped, and with it what was begun or asked for.
    pub fn give_up(mut self) {
        if self.window.is_some() || self.asked {
            self.end_window();
        }
    }

    /// The task's own instance is taken down. If it is for a window, that took so long of it.
    fn is_renewed(&mut self, took: Duration) {
        if self.asked {
            self.budget.spend_end(took);
        }
    }

    fn end(&mut self, window: Window) {
        let began = Instant::now();
        drop(window);
        self.budget.spend_end(began.elapsed());
        self.end_window();
    }

    fn end_window(&mut self) {
        self.budget.end_window();
        self.identity.log.settle();
    }
}

impl TaskCell {
    /// The task is to have this shadow from now on, or none.
    pub(crate) fn set_shadow(&self, shadow: Option<(Arc<Deployed>, Shadow, Purse)>) -> Option<Box<Shadowing>> {
        let findings = shadow.as_ref().map(|(_, shadow, _)| Findings::new(shadow.deployment, shadow.share_percent));
        *lock(&self.findings) = findings;
        shadow.map(|(deployed, shadow, purse)| Box::new(Shadowing::new(self, deployed, shadow, purse)))
    }

    /// The task's own call is made. Makes that of its shadow, if it is to have one, and asks for the next window when it is due.
    pub(crate) fn shadow(&self, work: &mut Work, twin: Option<Call>, took: Duration, outcome: &CallOutcome) {
        let Some(mut shadow) = work.shadow.take() else { return };
        let birth = work.birth.min(took);
        shadow.budget.earn(took - birth);
        if let Some(call) = twin {
            let memory_bytes = work.guest.as_ref().map_or(0, Guest::memory_bytes);
            self.beside(&mut shadow, work, call, &Made { took, birth, outcome, memory_bytes });
        }
        if shadow.asks() {
            work.events.push_back(Event::Renew);
        }
        work.shadow = Some(shadow);
    }

    /// The task's instance is not to be used again.
    pub(crate) fn drop_instance(&self, work: &mut Work) {
        let began = Instant::now();
        (work.guest, work.unborn) = (None, None);
        if let Some(shadow) = &mut work.shadow {
            shadow.is_renewed(began.elapsed());
        }
    }

    /// Has a shadow that takes whatever there is begin with the task's next call.
    pub(crate) fn begin_shadow(&self, work: &mut Work, shadow: Option<Box<Shadowing>>) {
        work.shadow = shadow;
        if work.shadow.as_mut().is_some_and(|shadow| shadow.asks()) {
            work.events.push_back(Event::Renew);
        }
    }

    fn beside(&self, shadow: &mut Shadowing, work: &Work, call: Call, live: &Made<'_>) {
        let began = Instant::now();
        let mut window = shadow.window.take().expect("a call is given again only in a window");
        if live.lacked_room() {
            return shadow.end(window);
        }
        let store = work.store.as_ref().expect("the local copy was opened");
        let own = View { over: None, open: call.open.clone(), sealed: call.sealed.clone(), local: store.reader() };
        let over = Some(window.overlay.clone()).filter(|overlay| !overlay.is_empty());
        // A failure of the task's own may have taken all the time that its calls have.
        let limit_ms = match live.outcome {
            CallOutcome::Folded { .. } => budget::limit_ms(live.took),
            CallOutcome::Failed(_) => budget::limit_ms(Duration::ZERO),
        };
        let (birth, came) =
            self.call_shadow(shadow, window.guest.take(), &call, View { over, ..own.clone() }, limit_ms);
        let births = birth.map(|shadow| Births { shadow, own: live.birth });
        let took = began.elapsed();

        let mut findings = lock(&self.findings);
        let findings = findings.as_mut().filter(|findings| findings.deployment == shadow.identity.deployment);
        let Some(findings) = findings else { return shadow.end_window() };
        let mut found = Found { room: EXAMPLES_MAX.saturating_sub(findings.examples.len()), ..Found::default() };
        findings.windows += u64::from(!window.begun);
        let records = records(&call);
        let (outcome, guest) = match came {
            Came::Not(why) => {
                findings.obstacle = Some(why);
                shadow.budget.spend(took, births, false);
                return shadow.end_window();
            }
            // Where its own failed, nobody knows how long the task would have taken.
            Came::Late(_) if matches!(live.outcome, CallOutcome::Failed(_)) => {
                findings.late += 1;
                shadow.budget.spend(took, births, false);
                return shadow.end_window();
            }
            Came::Late(limit_ms) => {
                findings.late += 1;
                (CallOutcome::Failed(late(limit_ms, live.took)), None)
            }
            Came::To(outcome, guest) => {
                findings.obstacle = None;
                (outcome, guest)
            }
        };
        let overlay = Arc::make_mut(&mut window.overlay);
        let own = |key: &[u8]| own.own(key);
        let compared = compare::compare(live.outcome, &outcome, (overlay, shadow.room), own, &mut found);
        let is_full = shadow.room.is_passed_by(overlay);
        findings.cut += u64::from(is_full);
        findings.records += records;
        findings.live.add(live.took, records);
        findings.shadow.add(took, records);
        findings.live.memory_bytes = findings.live.memory_bytes.max(live.memory_bytes);
        let memory_bytes = guest.as_ref().map_or(0, Guest::memory_bytes);
        findings.shadow.memory_bytes = findings.shadow.memory_bytes.max(memory_bytes);
        findings.take(found, self.id, call.time_ms, || self.given(&call));
        let goes_on = compared.unwrap_or(false) && !is_full;
        shadow.budget.spend(began.elapsed(), births, goes_on);
        // Where the task's own instance is gone with a failure, the next call is the first of both.
        let guest = guest.filter(|_| matches!(live.outcome, CallOutcome::Folded { .. }));
        let window = Window { guest, begun: true, ..window };
        if goes_on && shadow.budget.has_call() {
            shadow.window = Some(window);
        } else {
            shadow.end(window);
        }
    }

    /// Calls the shadow, and says how long its birth took if there was one.
    fn call_shadow(
        &self,
        shadow: &Shadowing,
        guest: Option<Guest>,
        call: &Call,
        view: View,
        limit_ms: u64,
    ) -> (Option<Duration>, Came) {
        let began = Instant::now();
        let deployment_ms = shadow.identity.limits.batch_timeout_ms;
        let limit = Duration::from_millis(limit_ms.min(deployment_ms));
        let invocation = Invocation { time_ms: call.time_ms, seed: call.seed };
        let (birth, begun) = match guest {
            Some(guest) => (None, Ok(guest)),
            None => match shadow.deployed.program.prepare_beside(&shadow.identity, limit_ms) {
                Err(GuestFault::Deadline { .. }) if limit_ms < deployment_ms => {
                    let why = format!("its instance took longer than {limit_ms} ms to be made");
                    return (Some(began.elapsed()), Came::Not(why));
                }
                Err(fault) => return (Some(began.elapsed()), Came::Not(fault.to_string())),
                Ok(mut unborn) => {
                    unborn.hurry(limit, time_on_core);
                    let begun = unborn.begin(view.clone(), invocation);
                    (Some(began.elapsed()), begun)
                }
            },
        };
        let called = begun.and_then(|mut guest| {
            guest.hurry(limit, time_on_core);
            self.give(guest, call, view)
        });
        let came = match called {
            Ok((guest, effects)) => Came::To(effects.into(), Some(guest)),
            Err(GuestFault::Deadline { .. }) if limit_ms < deployment_ms => Came::Late(limit_ms),
            Err(fault) => Came::To(CallOutcome::Failed(failure(&fault)), None),
        };
        (birth, came)
    }

    /// What a call was given, for people.
    fn given(&self, call: &Call) -> String {
        match call.work.given() {
            Given::Runs(runs) => {
                let first = runs.iter().find_map(|run| Some((run, run.records().next()?)));
                first.map_or_else(String::new, |(run, record)| {
                    let stream = &self.job.streams[usize::from(run.shard.stream.0)];
                    format!("{stream} {} {}", run.shard.shard, record.place)
                })
            }
            Given::Timers(timers) => timers.first().map_or_else(String::new, |timer| format!("timer {}", timer.name)),
        }
    }
}

fn records(call: &Call) -> u64 {
    match call.work.given() {
        Given::Runs(runs) => runs.iter().map(|run| run.len() as u64).sum(),
        Given::Timers(_) => 0,
    }
}

fn late(limit_ms: u64, own: Duration) -> Failure {
    let own_ms = own.as_secs_f64() * 1_000.0;
    let message = format!("it took longer than {limit_ms} ms; the task's own call took {own_ms:.1} ms");
    Failure { kind: FailureKind::Retry, index: None, message }
}
