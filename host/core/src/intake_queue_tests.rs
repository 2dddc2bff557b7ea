//! What waits in an intake: how batches are cut, what is given alone, and what is passed without being given.

use super::check;

#[test]
fn a_batch_is_cut_within_an_aggregate_and_what_is_set_aside_goes_with_its_place() {
    let script = [
        ("list a=00-ff", ""),
        ("wants", "a:-"),
        ("offer a -..9 1/0 1/1 !1/2 !1/3 1/4 1/5 2 !3 !5 6 !8", "taken"),
        ("batch", "a1 a1/1 a1/4 (a1/2) (a1/3)"),
        ("fold", "a:1/4"),
        // From here a reader that begins anew must bring the aggregate again, and what was folded is skipped.
        ("offer a 1/4..9 1/0 1/1 !1/2 1/4 1/5 2", "known"),
        ("batch", "a1/5 a2 a6 (a3) (a5) (a8)"),
        ("fold", "a:9"),
    ];
    check("00-ff", "a", "", &script);
    // Taken up again in the midst of an aggregate.
    let script = [
        ("list a=00-ff", ""),
        ("wants", "a:1/4"),
        ("offer a 1/4..9 1/0 1/1 !1/2 !1/3 1/4 1/5 !1/6 2", "taken"),
        ("batch", "a1/5 a2 (a1/6)"),
    ];
    check("00-ff", "a", "a:1/4/00-ff", &script);
}

#[test]
fn what_may_be_at_fault_is_given_alone_and_in_its_place() {
    let script = [
        ("list a=00-7f b=80-ff", ""),
        ("wants", "a:- b:-"),
        ("offer a -..3 1 2 3", "taken"),
        ("batch", "a1 a2 a3"),
        ("put-back", ""),
        ("suspect a 2", ""),
        ("batch", "a1"),
        ("fold", "a:1 b:-"),
        ("batch", "a2"),
        ("put-back", ""),
        ("batch", "a2"),
        ("fold", "a:2 b:-"),
        ("offer b -..2 1 2", "taken"),
        ("batch", "a3 b1 b2"),
        ("suspect-all", ""),
        ("batch", "a3"),
        ("fold", "a:3 b:-"),
        ("batch", "b1"),
        ("fold", "a:3 b:1"),
        ("batch", "b2"),
        ("fold", "a:3 b:2"),
        ("offer a 3..6 4 5 6", "taken"),
        ("batch", "a4 a5 a6"),
    ];
    check("00-ff", "b", "", &script);
}

#[test]
fn what_is_gone_is_passed_in_its_place_and_once() {
    let script = [
        ("list a=00-ff b=00-ff<a", ""),
        ("wants", "a:-"),
        ("offer a -..3 1 3", "taken"),
        ("lose a 50", "lost"),
        ("lose a 50", "lost"),
        ("batch", "a1 a3"),
        ("fold", "a:3"),
        ("wants", ""),
        ("batch", "a-gap"),
        ("fold", "a:3"),
        // It is read on from where it was, and not told again.
        ("wants", "a:3"),
        ("lose a 50", "known"),
        ("wants", "a:3"),
        ("lose a 51", "lost"),
        ("batch", "a-gap"),
        ("fold", "a:3"),
        ("wants", "a:3"),
        ("lose a end", "lost"),
        ("batch", "a-gap"),
        ("fold", "a:end"),
        ("lose a end", "lost"),
        ("batch", ""),
        ("wants", "b:-"),
    ];
    check("00-ff", "a", "", &script);
    // A parent that was never begun.
    let script = [
        ("list c=00-ff<b", ""),
        ("orphans", "b"),
        ("lose b end", "lost"),
        ("wants", "c:-"),
        ("batch", "b-gap"),
        ("fold", "b:end c:-"),
        ("orphans", ""),
    ];
    check("00-ff", "a", "", &script);
}

#[test]
fn repeats_of_an_upstream_job_are_set_aside() {
    let script = [
        ("list a=00-ff", ""),
        ("wants", "a:-"),
        ("offer a -..4 1=0/7/0 2=0/7/1 3=0/7/0 4", "taken"),
        ("offer a 4..9 5=0/7/1 6=0/8/0 7=0/7/5 8=1/3/0 9=0/8/1", "taken"),
        ("batch", "a1 a2 a4 (a3)"),
        ("fold", "a:4"),
        ("batch", "a6 a8 a9 (a5) (a7)"),
        ("put-back", ""),
        ("batch", "a6 a8 a9 (a5) (a7)"),
        ("fold", "a:9"),
    ];
    check("00-ff", "a", "", &script);
}
