//! Why what a job runs is not changed.

use pelton_core::id::{DeploymentNumber, Digest, TaskId};
use pelton_core::task::OutOfReach;

use crate::guest::{ComponentError, GuestFault};
use crate::ports::PortError;

/// Why a deployment was not made, or what runs not changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Its component is not kept.
    #[error("no component sha256:{0} is kept; `pelton component push` keeps one")]
    NoComponent(Digest),
    /// Its component cannot run as a task.
    #[error("component sha256:{0}: {1}")]
    Component(Digest, ComponentError),
    /// An instance of it cannot begin.
    #[error("an instance of it was tried on the state of task {task}, and {fault}")]
    Init {
        /// Whose state it was tried on.
        task: TaskId,
        /// What became of it.
        fault: GuestFault,
    },
    /// An instance of it took longer to begin than one is tried.
    #[error(
        "an instance of it was tried on the state of task {task}, and took longer than {limit_ms} ms to begin, which is as long as one \
         is tried; leave some of what its `init` does to its first call"
    )]
    Slow {
        /// Whose state it was tried on.
        task: TaskId,
        /// How long it may take, in milliseconds.
        limit_ms: u64,
    },
    /// A task has timers, and its component could not fire them.
    #[error(
        "task {task} has timers set ({timers}), and component sha256:{component} exports no pelton:task/timer-handler to fire them; \
         have it export one, or have what runs now cancel them before"
    )]
    FiresNoTimers {
        /// The component.
        component: Digest,
        /// Which task.
        task: TaskId,
        /// How many it has.
        timers: u64,
    },
    /// No task runs here whose state it could be tried on.
    #[error("no task of the job runs on this host yet, so that an instance of it could be tried; see its status")]
    NoTask,
    /// A task stopped before its state was loaded, and its component could fire no timers.
    #[error(
        "task {task} stopped before its state was loaded, so that nobody knows whether it has timers set, and component sha256:{component} \
         exports no pelton:task/timer-handler to fire them; `pelton status` says why it stopped: mend that first, or have the component \
         export one"
    )]
    TimersUnread {
        /// The component.
        component: Digest,
        /// Which task.
        task: TaskId,
    },
    /// The state of a task is not loaded yet, and its component could fire no timers.
    #[error(
        "the state of task {task} is not loaded yet, so that nobody knows whether it has timers set, and component sha256:{component} exports no \
         pelton:task/timer-handler to fire them; try again once it runs, or have the component export one"
    )]
    TimersUnknown {
        /// The component.
        component: Digest,
        /// Which task.
        task: TaskId,
    },
    /// There is no such deployment.
    #[error("the job has no deployment {0}; `pelton deployments` lists them")]
    NoDeployment(DeploymentNumber),
    /// It is tried by nobody.
    #[error("deployment {0} is neither the job's canary nor its shadow; `pelton deployments` says what is")]
    NotTried(DeploymentNumber),
    /// There is no canary.
    #[error("the job has no canary; `pelton deploy --canary` makes one")]
    NoCanary,
    /// It was never left, so that nothing can be undone.
    #[error(
        "no task left deployment {0} for another, or what came after it is undone already; `pelton rollback` without --rewind goes to \
         any deployment"
    )]
    NeverLeft(DeploymentNumber),
    /// Nothing was left since the job went back last, so that nothing is to be undone.
    #[error(
        "no deployment was left since the job was created or went back; `pelton rollback --rewind --to N` undoes all since deployment N \
         was left"
    )]
    NothingLeft,
    /// A task cannot be rewound.
    #[error(
        "task {task} cannot be rewound: {why}; nothing is changed, and `pelton rollback` without --rewind keeps the state"
    )]
    OutOfReach {
        /// Which task.
        task: TaskId,
        /// Why not.
        why: OutOfReach,
    },
    /// A task is not there to be asked whether it can be rewound.
    #[error("task {0} does not run on this host, so that nobody knows whether it can be rewound; nothing is changed")]
    TaskAway(TaskId),
    /// Another host has a task.
    #[error("task {0} runs on another host, which alone knows whether it can be rewound: ask that; nothing is changed")]
    TaskElsewhere(TaskId),
    /// There is no rewind to withdraw.
    #[error("the job has no rewind that could be withdrawn")]
    NothingUndone,
    /// It is not said what becomes of outputs.
    #[error(
        "the job has outputs: say whether those of records that are folded again are to be withheld or emitted again (--outputs withhold | again)"
    )]
    OutputsUnsaid,
    /// There is no shadow.
    #[error("the job has no shadow; `pelton deploy --shadow` makes one")]
    NoShadow,
    /// A job has a canary or a shadow.
    #[error("the job has {0} already; `pelton promote` ends it, with --drop or without")]
    Occupied(String),
    /// There is nothing to go back to.
    #[error(
        "the job had no other deployment before this one, or went back already; `pelton rollback --to N` goes to any"
    )]
    NoPrevious,
    /// Others changed what runs at the same time, again and again.
    #[error("what the job runs was changed at the same time; see `pelton deployments`, and try again")]
    Contended,
    /// It is kept what the tasks are to run, and this host does not have them run it yet.
    #[error("it stands in the table, and this host goes on with what it runs: {0}; it tries again by itself")]
    NotBrought(String),
    /// A service failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl DeployError {
    /// Whether another try may come to something else, with nothing changed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Port(error) => matches!(error, PortError::Retry(_)),
            Self::Component(_, ComponentError::Uncompiled(error)) => error.may_pass(),
            _ => false,
        }
    }
}
