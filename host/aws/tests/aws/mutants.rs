//! Every way in which the crate could be wrong, and the test here that notices it. Each is run in a process of its own, which
//! is this very program, and which `PELTON_MUTANT` makes wrong.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use pelton_aws::mutant::Mutant::{self, *};
use tokio::process::Command;
use tokio::time::timeout;

use crate::servers::LIMIT;

/// So many processes at once: they mostly wait.
const AT_ONCE: usize = 4;

const CAUGHT: &[(Mutant, &str)] = &[
    (PutWithoutCondition, "replies::a_put_that_arrives_after_it_was_given_up_takes_no_number_that_is_taken"),
    (ReplaceWithoutCondition, "jobs::a_lost_job_is_recovered_by_one"),
    (ExistsAsApplied, "changelog::a_number_has_one_author_whatever_is_lost"),
    (UnknownAsApplied, "replies::a_put_that_arrives_after_it_was_given_up_takes_no_number_that_is_taken"),
    (UnknownAsFailure, "replies::a_put_that_arrives_after_it_was_given_up_takes_no_number_that_is_taken"),
    (TailReadStale, "replicas::what_decides_is_never_read_from_a_replica"),
    (RangeReadStale, "replicas::what_decides_is_never_read_from_a_replica"),
    (ItemReadStale, "replicas::what_decides_is_never_read_from_a_replica"),
    (PageTokenIgnored, "parts::what_comes_in_pages_is_whole"),
    (UndoneForgotten, "parts::what_a_batch_leaves_undone_is_asked_for_again_and_nothing_else"),
    (StrangeAttributePassed, "strict::what_this_version_would_not_write_is_an_error"),
    (ClaimKeepsEpoch, "replies::a_claim_without_an_answer_may_count_and_the_next_one_is_greater"),
    (IdleSurplusKept, "changelog::idle_positions_are_split_and_replaced"),
    (FencesTrimmed, "changelog::trimming_keeps_fences_the_newest_and_all_above_the_floor"),
    (NewestTrimmed, "changelog::trimming_keeps_fences_the_newest_and_all_above_the_floor"),
    (PartsBeforeManifests, "parts::a_trim_that_is_cut_short_leaves_no_snapshot_without_its_parts"),
    (DeploymentOfOthersAsOurs, "deployments::a_deployment_has_a_number_of_its_own_whatever_is_lost"),
    (RolloutPassedOver, "deployments::what_stands_is_replaced_by_what_follows_it_alone"),
    (ComponentHeadFirst, "components::a_component_is_whole_or_not_there"),
    (ComponentUnchecked, "components::a_component_is_whole_or_not_there"),
    (CollectedThoughUsed, "components::what_a_job_needs_or_needed_of_late_is_not_collected"),
    (CollectedThoughWanted, "components::a_deletion_that_comes_late_does_nothing"),
    (GenerationKept, "components::a_deletion_that_is_cut_short_is_finished_and_a_push_revives"),
    (ReleasedThoughKept, "components::a_use_that_was_begun_anew_is_not_ended"),
    (PassingGivenUp, "throttling::a_host_starts_though_the_services_are_busy"),
    (OwnJobAsOthers, "jobs::a_job_is_created_once_and_found_again"),
    (OthersRecoveryAsOurs, "jobs::a_lost_job_is_recovered_by_one"),
    (RefusedAsPut, "sink::each_package_is_answered_for"),
    (UnansweredAsPut, "replies::an_output_without_an_answer_is_sent_again_under_its_id"),
    (UnfitReplyAsPut, "sink::each_package_is_answered_for"),
    (LaneOvertakes, "throttling::outputs_that_are_too_many_are_sent_again_and_none_overtakes"),
    (ExpiredAsEnd, "source::errors_are_classed_by_what_to_do"),
    (ShardEndIgnored, "source::a_closed_shard_ends_after_its_last_record"),
    (ThrottledAsGone, "throttling::shards_that_are_read_or_listed_too_often_are_neither_gone_nor_at_their_end"),
    (AggregateRestSkipped, "source::an_iterator_begins_behind_its_position"),
    (ListingPagesDropped, "parts::a_listing_of_shards_is_whole_or_none"),
    (ListingCutShort, "parts::a_listing_of_shards_is_whole_or_none"),
    (SubscriptionRepeats, "fan_out::one_that_runs_out_is_renewed_where_it_ended"),
    (SubscriptionRestarts, "fan_out::one_that_runs_out_is_renewed_where_it_ended"),
];

/// Runs tests of this program by their names.
async fn run(tests: &BTreeSet<&str>, mutant: Option<Mutant>) -> Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(tests).arg("--exact").env_remove("PELTON_MUTANT").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command.envs(mutant.map(|mutant| ("PELTON_MUTANT", mutant.name()))).kill_on_drop(true);
    Ok(timeout(3 * LIMIT, command.output()).await.context("it comes to no end")??)
}

/// Expects a test to notice a mutant: to fail, and not to be missing or to end some other way.
async fn caught(mutant: Mutant, test: &'static str) -> Result<()> {
    let output = run(&BTreeSet::from([test]), Some(mutant)).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let noticed = said.contains("running 1 test") && said.contains(&format!("test {test} ... FAILED"));
    ensure!(noticed && !output.status.success(), "it was not noticed by {test}:\n{said}");
    // Past the test harness, which keeps what a passing test says to itself.
    writeln!(std::io::stdout(), "caught {} by {test}", mutant.name())?;
    Ok(())
}

#[tokio::test]
async fn each_mutant_is_caught() -> Result<()> {
    let listed: BTreeSet<Mutant> = CAUGHT.iter().map(|(mutant, _)| *mutant).collect();
    ensure!(listed.len() == CAUGHT.len() && listed.iter().eq(Mutant::ALL), "each mutant stands in the list once");
    let tests: BTreeSet<&str> = CAUGHT.iter().map(|(_, test)| *test).collect();
    let right = run(&tests, None).await?;
    let said = String::from_utf8_lossy(&right.stdout);
    let all = said.contains(&format!("running {} tests", tests.len()));
    ensure!(right.status.success() && all, "they fail without a mutant too:\n{said}");

    let runs = CAUGHT.iter().map(async |(mutant, test)| caught(*mutant, test).await.context(mutant.name()));
    let runs: Vec<Result<()>> = futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let missed: Vec<_> = runs.into_iter().filter_map(Result::err).collect();
    ensure!(missed.is_empty(), "{} of {} mutants: {missed:?}", missed.len(), CAUGHT.len());
    Ok(())
}
