//! Mutants: ways in which this crate could be wrong. A test build chooses one of them at run time, so that the tests can be
//! seen to notice it. Without the feature `mutants`, which nothing turns on here, there is none: [`wrong`] is `false`.

#[cfg(feature = "mutants")]
use std::sync::LazyLock;

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $mutant:ident = $name:literal,)*) => {
        /// A way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant { $($(#[doc = $doc])* $mutant,)* }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];

            /// What it is called in `PELTON_MUTANT`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$mutant => $name,)* }
            }
        }
    };
}

mutants! {
    /// A commit replaces whatever stands at its number.
    PutWithoutCondition = "put-without-condition",
    /// A job's meta item is replaced whatever it has become.
    ReplaceWithoutCondition = "replace-without-condition",
    /// A number that is taken counts as a commit that was put.
    ExistsAsApplied = "exists-as-applied",
    /// A put without an answer counts as applied.
    UnknownAsApplied = "unknown-as-applied",
    /// What may have been done, or may pass, counts as failed for good.
    UnknownAsFailure = "unknown-as-failure",
    /// The newest item of a log is asked of any replica.
    TailReadStale = "tail-read-stale",
    /// Ranges of items are asked of any replica.
    RangeReadStale = "range-read-stale",
    /// Single items are asked of any replica.
    ItemReadStale = "item-read-stale",
    /// A query ends with its first page.
    PageTokenIgnored = "page-token-ignored",
    /// What a BatchWriteItem left undone counts as done.
    UndoneForgotten = "undone-forgotten",
    /// Attributes that are not known are passed over.
    StrangeAttributePassed = "strange-attribute-passed",
    /// A claim leaves the epoch as it was.
    ClaimKeepsEpoch = "claim-keeps-epoch",
    /// Chunks of idle positions that were replaced by fewer stay.
    IdleSurplusKept = "idle-surplus-kept",
    /// Fences are trimmed with the commits around them.
    FencesTrimmed = "fences-trimmed",
    /// The newest commit is trimmed when the floor is beyond it.
    NewestTrimmed = "newest-trimmed",
    /// Parts are trimmed while their manifest stands.
    PartsBeforeManifests = "parts-before-manifests",
    /// A number that another host gave its deployment counts as given to ours.
    DeploymentOfOthersAsOurs = "deployment-of-others-as-ours",
    /// What a job runs is replaced by what followed something else.
    RolloutPassedOver = "rollout-passed-over",
    /// A component is said to be whole before its pieces are there.
    ComponentHeadFirst = "component-head-first",
    /// A component's bytes are not held against its digest.
    ComponentUnchecked = "component-unchecked",
    /// A component is collected whoever uses it.
    CollectedThoughUsed = "collected-though-used",
    /// A component is collected though somebody wanted it since it was looked at.
    CollectedThoughWanted = "collected-though-wanted",
    /// A component that is pushed anew has its pieces where those of before are being deleted.
    GenerationKept = "generation-kept",
    /// A use is ended though it was begun anew.
    ReleasedThoughKept = "released-though-kept",
    /// What fails in passing is not asked for again.
    PassingGivenUp = "passing-given-up",
    /// A job created by a request whose reply was lost counts as another host's.
    OwnJobAsOthers = "own-job-as-others",
    /// A job recovered by somebody else counts as recovered by us.
    OthersRecoveryAsOurs = "others-recovery-as-ours",
    /// Records that PutRecords refused count as put.
    RefusedAsPut = "refused-as-put",
    /// A PutRecords without an answer counts as put.
    UnansweredAsPut = "unanswered-as-put",
    /// Records for which a reply has no answer count as put.
    UnfitReplyAsPut = "unfit-reply-as-put",
    /// A package's next record is sent though the one in front of it was refused.
    LaneOvertakes = "lane-overtakes",
    /// An iterator that expired counts as the end of its shard.
    ExpiredAsEnd = "expired-as-end",
    /// A closed shard is read on and on.
    ShardEndIgnored = "shard-end-ignored",
    /// A throttled shard counts as gone.
    ThrottledAsGone = "throttled-as-gone",
    /// The rest of an aggregate is skipped when reading goes on within it.
    AggregateRestSkipped = "aggregate-rest-skipped",
    /// Only the first page of a listing of shards is taken.
    ListingPagesDropped = "listing-pages-dropped",
    /// A page of a listing that cannot be had counts as its end.
    ListingCutShort = "listing-cut-short",
    /// A renewed subscription gives records that were given.
    SubscriptionRepeats = "subscription-repeats",
    /// A renewed subscription begins where the first one did.
    SubscriptionRestarts = "subscription-restarts",
}

/// Whether this process is to be wrong in this way.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn wrong(_: Mutant) -> bool {
    false
}

/// Whether this process is to be wrong in this way: what `PELTON_MUTANT` names, if anything.
#[cfg(feature = "mutants")]
pub(crate) fn wrong(mutant: Mutant) -> bool {
    static CHOSEN: LazyLock<Option<Mutant>> = LazyLock::new(|| {
        let name = std::env::var("PELTON_MUTANT").ok()?;
        let known = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
        Some(*known.unwrap_or_else(|| panic!("{name} in PELTON_MUTANT is no mutant")))
    });
    *CHOSEN == Some(mutant)
}
