//! Wrong variants of the rules, to prove that tests would see them. They exist only in the copy of this crate that the
//! simulator is built with (feature `mutants`), where one is chosen at run time; anywhere else `wrong` is false while
//! compiling, and nothing of them is left.

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rule broken on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $variant,)*
        }

        impl Mutant {
            /// Every mutant with its name.
            pub const ALL: &[(&str, Self)] = &[$(($name, Self::$variant),)*];
        }
    };
}

mutants! {
    /// The pin changes in the midst of a commit.
    SwapAmidCommit = "swap-amid-commit",
    /// A canary's failures count as any other's.
    CanaryAsAnyOther = "canary-as-any-other",
    /// A canary is called again and again, however often it fails.
    CanaryStays = "canary-stays",

    /// A rollback is a deployment like any other: a second one leads forth again.
    RollbackForth = "rollback-forth",
    /// What was undone is not taken back.
    RewindSkipped = "rewind-skipped",
    /// A task goes back to where records that it would fold again are gone.
    RewindToGone = "rewind-to-gone",
    /// Where a shard is at its end and what comes of it is not begun, nothing is unread.
    ChildrenUnmissed = "children-unmissed",
    /// Records that are older than the job count as none, where a rewind leads to them.
    BacklogForgotten = "backlog-forgotten",
    /// Outputs of what is folded again are emitted though they were to be withheld.
    NothingWithheld = "nothing-withheld",
    /// One call is given records from both sides of where a rewound task had come.
    RefoldUnsplit = "refold-unsplit",
    /// A task that begins anew has forgotten what it had passed before it was rewound.
    RefoldForgotten = "refold-forgotten",
    /// What was a dead letter and was dropped counts as folded.
    ForgottenIsFolded = "forgotten-is-folded",
    /// What was folded before a rewind and becomes a dead letter after it counts as never folded.
    LetterForgetsFold = "letter-forgets-fold",
    /// A timer counts as fired before a rewind though what sets it was not folded before.
    UnfoldedTimerIsFired = "unfolded-timer-is-fired",
    /// A dead letter that was redriven before a rewind counts as never folded after it.
    LetterBroughtBackUnmarked = "letter-brought-back-unmarked",
    /// The log is trimmed although a rewind may need it.
    WindowForgotten = "window-forgotten",
    /// Idle positions are believed after a later commit.
    IdleAfterCommit = "idle-after-commit",

    /// A put whose fate is unknown counts as applied.
    UnknownIsApplied = "unknown-is-applied",
    /// A put whose fate is unknown counts as refused: what it held is forgotten.
    LostReplyIsFailure = "lost-reply-is-failure",
    /// A new owner goes on from the tail without a fence.
    FenceSkipped = "fence-skipped",
    /// A claim goes on although a later one has its fence in the log.
    ClaimOutrun = "claim-outrun",
    /// A local copy from below the floor goes on from the log as it stands there.
    BelowFloorIsHistory = "below-floor-is-history",
    /// A local copy is believed if the log has its number.
    LocalByNumber = "local-by-number",

    /// A gap is told by what the lane knows, not by what each of its members does.
    GapByLane = "gap-by-lane",
    /// A gap is told of records that the stream keeps for long yet.
    GapTooSoon = "gap-too-soon",
    /// A gap is told to reach further than the horizon moves while it is passed.
    GapTooFar = "gap-too-far",
    /// What was read of its parents counts for nothing in a child.
    ChildForgetsBound = "child-forgets-bound",
    /// What is taken and not folded yet counts for nothing where a shard is wanted.
    WantForgetsTaken = "want-forgets-taken",
    /// A letter that was asked to be forgotten goes though its gap has grown since.
    GrownGapForgotten = "grown-gap-forgotten",
    /// A commit's positions are those of the mailbox.
    PositionBeforeWrites = "position-before-writes",
    /// A position within an aggregate passes all of it.
    SubSequenceIgnored = "sub-sequence-ignored",
    /// A run that leaves a hole is taken.
    HoleTaken = "hole-taken",
    /// What a run holds of what was taken before is taken again.
    OverlapTaken = "overlap-taken",
    /// A child of a job started `latest` is opened like the shards of its start.
    ChildOpenedAtStart = "child-opened-at-start",
    /// A parent that the listing lacks counts as gone.
    UnlistedParentIsGone = "unlisted-parent-is-gone",
    /// A child is read beside its parents.
    ParentsIgnored = "parents-ignored",
    /// A shard from before the job's start is opened where an old listing shows it.
    BeforeStartOpened = "before-start-opened",
    /// A shard is opened though one that came of it has a position.
    AncestorOpenedAgain = "ancestor-opened-again",
    /// A shard is opened though a younger one of the same hash keys has a position, where no listing shows what lies between.
    OutlivedOpenedAgain = "outlived-opened-again",
    /// Repeats are judged by one mark for the whole hash space.
    OneWatermark = "one-watermark",
    /// Repeats are judged by one mark for all input streams.
    RepeatsAcrossStreams = "repeats-across-streams",
    /// Nobody is detached from the shared reader: it waits for whoever is full.
    LaggardHoldsReader = "laggard-holds-reader",

    /// A failed call discards what calls before it folded.
    FailureDiscardsAll = "failure-discards-all",
    /// Failed attempts are counted from none after a restart.
    AttemptsForgotten = "attempts-forgotten",
    /// Whatever is set aside, the attempts at something else are forgotten.
    AttemptsOfAnotherForgotten = "attempts-of-another-forgotten",
    /// The logic is not tried again.
    NoRetry = "no-retry",
    /// What was to stop the task becomes a dead letter.
    StopIsLetter = "stop-is-letter",
    /// A dead letter that the logic fails with again is removed.
    FailedRedriveRemoves = "failed-redrive-removes",
    /// Timers are forgotten by a restart.
    TimersForgotten = "timers-forgotten",
    /// What logic deletes stays.
    DeletesIgnored = "deletes-ignored",
    /// A timer that fired stays set.
    FiredTimerStays = "fired-timer-stays",
    /// The time of an invocation is the host's, also where it falls.
    ClockFalls = "clock-falls",
    /// There may be any number of dead letters.
    LettersUnbounded = "letters-unbounded",
    /// Dead letters may be of any size.
    LetterBytesUnbounded = "letter-bytes-unbounded",
    /// A gap at which the task was to stop is passed.
    GapStopContinues = "gap-stop-continues",
    /// What began as an aggregate and was none is not counted where something beside it came before.
    MalformedForgotten = "malformed-forgotten",
    /// A record set aside takes no account of what is set aside beside it.
    RoomForOneLetter = "room-for-one-letter",
    /// A drop is not counted.
    DropUncounted = "drop-uncounted",
    /// A gap is told by the host's clock, as if that were Kinesis' own.
    GapWithoutMargin = "gap-without-margin",
    /// A gap is passed without a letter.
    GapWithoutLetter = "gap-without-letter",

    /// A round of outputs is done with when some of it arrived.
    SomeArrivedIsAll = "some-arrived-is-all",
    /// Of a key, all packages are sent at once.
    KeyWithoutOrder = "key-without-order",
    /// What is unpublished is forgotten by a restart.
    OutboxForgotten = "outbox-forgotten",
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Breaks a rule on this thread from now on, or none.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}

/// Whether a rule is broken on purpose.
#[cfg(feature = "mutants")]
pub(crate) fn wrong(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(mutant)
}

/// Whether a rule is broken on purpose: never.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn wrong(_: Mutant) -> bool {
    false
}
