//! Races for a task, told as what happens to one claimant.

use super::*;

fn tail(number: u64, epoch: u64) -> Tail {
    Tail { number: CommitNumber(number), id: CommitId([number as u8; 16]), epoch: Epoch(epoch) }
}

fn manifest(at: u64, floor: u64) -> Manifest {
    Manifest {
        id: CommitId::default(),
        at: CommitNumber(at),
        at_id: CommitId::default(),
        at_epoch: Epoch(1),
        last_step_id: CommitId::default(),
        taken_ms: 0,
        floor: CommitNumber(floor),
        parts: 0,
        entries: 0,
        state_bytes: 0,
    }
}

fn show(next: &ClaimNext) -> String {
    match next {
        ClaimNext::Claim => "claim".into(),
        ClaimNext::ReadTail => "tail?".into(),
        ClaimNext::Put(append, attempt) => format!("put {} #{attempt}", append.commit.commit().number),
        ClaimNext::Read(number) => format!("read {number}"),
        ClaimNext::ReadManifests => "manifests?".into(),
        ClaimNext::Owned(ownership) => format!("owned at {}", ownership.fence),
        ClaimNext::Lost(StopCause::ClaimLost { theirs, .. }) => format!("lost to {theirs}"),
        ClaimNext::Lost(StopCause::FenceTrimmed { floor, .. }) => format!("trimmed to {floor}"),
        ClaimNext::Lost(cause) => format!("lost: {cause}"),
    }
}

/// Plays a claim in epoch 5: what happens, and what it needs then.
fn check(script: &[(&str, &str)]) {
    let ours = CommitId([200; 16]);
    let mut claim = Claim::new(ours);
    assert_eq!(show(&claim.claimed(Epoch(5))), "tail?");
    for (event, outcome) in script {
        let (verb, rest) = event.split_once(' ').unwrap_or((event, ""));
        let numbers: Vec<u64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
        let next = match verb {
            "tail" => claim.tail(tail(numbers[0], numbers[1])),
            "applied" => claim.put(PutReply::Applied),
            "exists" => claim.put(PutReply::Exists),
            "unknown" => claim.put(PutReply::Unknown),
            "stands" if rest == "ours" => claim.read(Some(ours)),
            "stands" if rest == "nothing" => claim.read(None),
            "stands" => claim.read(Some(CommitId([7; 16]))),
            "manifests" if numbers.is_empty() => claim.manifests(Vec::new()),
            "manifests" => claim.manifests(vec![manifest(numbers[0], numbers[1]), manifest(2, 2)]),
            other => panic!("{other} is no verb"),
        };
        assert_eq!(show(&next), *outcome, "{event}, in {script:?}");
    }
}

#[test]
fn the_log_alone_says_who_owns_the_task() {
    check(&[("tail 0 0", "put 1 #0"), ("applied", "manifests?"), ("manifests", "owned at 1")]);
    // The owner before goes on meanwhile: the fence goes behind.
    check(&[("tail 7 4", "put 8 #0"), ("exists", "read 8"), ("stands other", "tail?"), ("tail 8 4", "put 9 #0")]);
    // Another claimed later and was quicker.
    check(&[("tail 7 4", "put 8 #0"), ("exists", "read 8"), ("stands other", "tail?"), ("tail 8 6", "lost to 6")]);
    check(&[("tail 8 5", "lost to 5")]);
}

#[test]
fn a_lost_reply_is_settled_by_reading() {
    let lost = ("unknown", "put 8 #1");
    check(&[("tail 7 4", "put 8 #0"), lost, ("exists", "read 8"), ("stands ours", "manifests?")]);
    check(&[("tail 7 4", "put 8 #0"), lost, ("exists", "read 8"), ("stands nothing", "put 8 #2")]);
    check(&[("tail 7 4", "put 8 #0"), lost, ("unknown", "put 8 #2"), ("applied", "manifests?")]);
}

#[test]
fn a_fence_counts_only_above_the_floor() {
    let stands = [("tail 7 4", "put 8 #0"), ("applied", "manifests?")];
    for (read, outcome) in [
        ("manifests 6 6", "owned at 8"),
        ("manifests 7 7", "owned at 8"),
        ("manifests 8 8", "trimmed to 8"),
        ("manifests 40 40", "trimmed to 40"),
    ] {
        check(&[stands[0], stands[1], (read, outcome)]);
    }
}
