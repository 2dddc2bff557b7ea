//! Enhanced fan-out: subscriptions that are renewed, broken, silent and refused, by a script; and a whole life of one on a
//! real API.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_kinesis::primitives::Blob;
use futures::StreamExt as _;
use pelton_aws::{Connections, FanOutTimes, KinesisSource};
use pelton_core::id::{Incarnation, ShardId, ShardKey, StreamIndex};
use pelton_core::job::{Input, JobMeta, Start};
use pelton_core::policy::Policies;
use pelton_core::position::{Position, RecordPlace};
use pelton_core::slice::{HashRange, TaskCount};
use pelton_engine::ports::{PortError, Source, SourceError, Subscription};

use crate::script::{Answer, Frame, Script};
use crate::servers::{LIMIT, connections, create_stream, fresh};

const REOPEN: Duration = Duration::from_millis(300);
const TIMES: FanOutTimes = FanOutTimes {
    silence_max: Duration::from_secs(2),
    reopen_min: Duration::ZERO,
    registration_max: Duration::from_millis(100),
    refusal_holds: Duration::from_secs(1),
};

fn source(connections: &Connections, stream: &str, times: FanOutTimes) -> Result<KinesisSource> {
    let input = Input {
        name: stream.to_owned(),
        arn: format!("arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"),
        created_ms: 0,
        newest_shard: ShardId::from("shardId-000000000000"),
        listed: [(ShardId::from("shardId-000000000000"), HashRange::ALL)].into(),
    };
    let meta = JobMeta {
        policies: Policies::default(),
        name: "orders".into(),
        incarnation: Incarnation([9; 16]),
        tasks: TaskCount::new(1).context("one is a number of tasks")?,
        inputs: vec![input],
        start: Start::TrimHorizon,
        created_ms: 0,
    };
    Ok(KinesisSource::new(connections, &meta, times))
}

fn shard() -> ShardKey {
    ShardKey { stream: StreamIndex(0), shard: ShardId::from("shardId-000000000000") }
}

/// The next thing that a subscription says: the numbers of its records and where it goes on, or its error.
async fn said(subscription: &mut Subscription) -> Result<String> {
    let reply = tokio::time::timeout(LIMIT, subscription.0.next()).await.context("nothing came")?;
    Ok(match reply.context("a subscription has no end")? {
        Ok(fetched) => {
            let records = fetched.records.iter().map(|record| record.place.sequence.to_string()).collect::<Vec<_>>();
            let next = fetched.next.map_or("end".into(), |next| next.0);
            format!("{} then {next}", records.join(" "))
        }
        Err(SourceError::Refused(text)) => format!("refused: {text}"),
        Err(SourceError::Port(PortError::Retry(text))) => format!("again: {text}"),
        Err(error) => bail!("a subscription never says so: {error}"),
    })
}

/// Expects a subscription to say these things, of errors only that they have the text.
async fn check(subscription: &mut Subscription, expected: &[&str]) -> Result<()> {
    for expected in expected {
        let said = said(subscription).await?;
        let (kind, text) = expected.split_once(": ").unwrap_or(("", expected));
        ensure!(said.starts_with(kind) && said.contains(text), "{said:?} where {expected:?} was expected");
        ensure!(!kind.is_empty() || said == *expected, "{said:?} where {expected:?} was expected");
    }
    Ok(())
}

/// Plays the answers to the subscriptions, and expects the source to say these things.
async fn play(
    times: FanOutTimes,
    answers: impl IntoIterator<Item = Answer>,
    expected: &[&str],
) -> Result<(Script, KinesisSource)> {
    let script = Script::default();
    script.next("SubscribeToShard", answers);
    let source = source(&script.serve().await?, "orders", times)?;
    check(&mut source.subscribe(&shard(), Position::TrimHorizon), expected).await?;
    Ok((script, source))
}

use Answer::{Error, Push};
use Frame::{Event, Exception, Silence};

#[tokio::test]
async fn one_that_runs_out_is_renewed_where_it_ended() -> Result<()> {
    let times = FanOutTimes { reopen_min: REOPEN, ..TIMES };
    let answers = [
        Push(vec![Event(&[1, 2], Some(2), &[]), Event(&[3], Some(3), &[]), Event(&[], Some(5), &[])]),
        // What an event says to go on with may be a record that was given.
        Push(vec![Event(&[3, 6], Some(6), &[])]),
        Push(vec![Event(&[6], Some(6), &[]), Event(&[7], Some(7), &[])]),
    ];
    let expected = ["1 2 then 2", "3 then 3", " then 5", "6 then 6", " then 6", "7 then 7"];
    let (script, _) = play(times, answers, &expected).await?;
    assert_eq!(script.positions(), ["TRIM_HORIZON -", "AT_SEQUENCE_NUMBER 5", "AT_SEQUENCE_NUMBER 6"]);
    let asked = script.asked("SubscribeToShard");
    for two in asked.windows(2) {
        assert!(two[1].at - two[0].at >= REOPEN, "a shard takes no second subscription so soon: {asked:?}");
    }
    assert_eq!(asked[0].body["ConsumerARN"], "arn:consumer");
    assert_eq!(script.asked("DescribeStreamConsumer").len(), 1, "the consumer is known by then");
    Ok(())
}

#[tokio::test]
async fn another_one_of_the_shard_waits_for_its_time_too() -> Result<()> {
    let times = FanOutTimes { reopen_min: REOPEN, ..TIMES };
    let first = [Push(vec![Event(&[1], Some(1), &[]), Silence])];
    let (script, source) = play(times, first, &["1 then 1"]).await?;
    script.next("SubscribeToShard", [Push(vec![Event(&[9], Some(9), &[])])]);
    let place = RecordPlace { sequence: "8".parse()?, sub_sequence: 0 };
    check(&mut source.subscribe(&shard(), Position::After(place)), &["9 then 9"]).await?;
    script.next("SubscribeToShard", [Push(vec![Event(&[9], Some(9), &[])])]);
    let whole = Position::after_all_of(place.sequence);
    check(&mut source.subscribe(&shard(), whole), &["9 then 9"]).await?;
    script.next("SubscribeToShard", [Push(vec![Event(&[9], Some(9), &[])])]);
    check(&mut source.subscribe(&shard(), Position::AtTimestamp(1_700_000_000_000)), &["9 then 9"]).await?;
    let asked = script.asked("SubscribeToShard");
    assert!(asked.windows(2).all(|two| two[1].at - two[0].at >= REOPEN), "{asked:?}");
    // By the rule of iterators: more of an aggregate may follow at its own number.
    let positions = ["TRIM_HORIZON -", "AT_SEQUENCE_NUMBER 8", "AFTER_SEQUENCE_NUMBER 8", "AT_TIMESTAMP time"];
    assert_eq!(script.positions(), positions);
    Ok(())
}

#[tokio::test]
async fn what_passes_is_tried_again_where_it_was() -> Result<()> {
    let times = FanOutTimes { reopen_min: REOPEN, ..TIMES };
    let answers = [
        // The host's last life subscribed a moment ago.
        Error(400, "ResourceInUseException"),
        Push(vec![Event(&[1], Some(1), &[]), Exception("InternalFailureException")]),
        Push(vec![Event(&[2], Some(2), &[]), Exception("KMSThrottlingException")]),
        Push(vec![Event(&[3], Some(3), &[]), Silence]),
        Push(vec![Event(&[4], Some(4), &[])]),
    ];
    let expected = [
        "again: ResourceInUseException",
        "1 then 1",
        "again: InternalFailure",
        "2 then 2",
        "again: KMSThrottlingException",
        "3 then 3",
        "again: nothing came for 2000 ms",
        "4 then 4",
    ];
    let (script, _) = play(times, answers, &expected).await?;
    let begun = ["TRIM_HORIZON -", "TRIM_HORIZON -", "AT_SEQUENCE_NUMBER 1", "AT_SEQUENCE_NUMBER 2"];
    assert_eq!(script.positions()[..4], begun);
    assert_eq!(script.positions()[4], "AT_SEQUENCE_NUMBER 3", "a silent connection is dead");
    let asked = script.asked("SubscribeToShard");
    assert!(asked[1].at - asked[0].at >= REOPEN, "the shard is held until then: {asked:?}");
    Ok(())
}

#[tokio::test]
async fn a_closed_shard_ends_after_its_last_record() -> Result<()> {
    let children = &["shardId-000000000001", "shardId-000000000002"];
    let as_kinesis = [Push(vec![Event(&[1], Some(1), &[]), Event(&[2], None, children)])];
    play(TIMES, as_kinesis, &["1 then 1", "2 then end"]).await?;
    // Some servers name the children while records are still to come.
    let early =
        [Push(vec![Event(&[1], Some(1), children), Event(&[2], Some(2), children), Event(&[], Some(2), children)])];
    play(TIMES, early, &["1 then 1", "2 then 2", " then end"]).await?;
    Ok(())
}

#[tokio::test]
async fn what_does_not_pass_is_left_to_polling() -> Result<()> {
    for code in ["AccessDeniedException", "ValidationException", "KMSDisabledException"] {
        play(TIMES, [Error(400, code)], &[&format!("refused: {code}")]).await?;
    }
    for code in ["KMSDisabledException", "KMSAccessDeniedException"] {
        let answers = [Push(vec![Event(&[1], Some(1), &[]), Exception(code)])];
        play(TIMES, answers, &["1 then 1", &format!("refused: {code}")]).await?;
    }
    let taken = [Push(vec![Event(&[1], Some(1), &[]), Exception("ResourceInUseException")])];
    play(TIMES, taken, &["1 then 1", "refused: another host reads it by this consumer"]).await?;

    // What is not known may be the consumer: it is looked for again, and no shard is called gone.
    let (script, source) =
        play(TIMES, [Error(400, "ResourceNotFoundException")], &["refused: ResourceNotFoundException"]).await?;
    script.next("SubscribeToShard", [Push(vec![Event(&[1], Some(1), &[])])]);
    check(&mut source.subscribe(&shard(), Position::TrimHorizon), &["1 then 1"]).await?;
    assert_eq!(script.asked("DescribeStreamConsumer").len(), 2);

    // A service that only ever fails, and one whose subscriptions bring nothing.
    for (answer, text) in
        [(Error(400, "LimitExceededException"), "LimitExceededException"), (Push(vec![]), "ended without an event")]
    {
        let (again, refused) = (format!("again: {text}"), format!("refused: {text}"));
        let expected = [&again[..], &again, &again, &again, &refused];
        // The SDK itself tries once more, after up to a second.
        play(FanOutTimes { silence_max: LIMIT, ..TIMES }, vec![answer; 15], &expected).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_consumer_is_found_or_made_or_refused() -> Result<()> {
    let none = || Error(400, "ResourceNotFoundException");
    for (describe, register, expected) in [
        (vec![none()], vec![], "1 then 1"),
        // Another host was faster.
        (vec![none()], vec![Error(400, "ResourceInUseException")], "1 then 1"),
        (vec![none()], vec![Error(400, "LimitExceededException"); 2], "refused: a stream has 20 consumers at most"),
        (vec![none()], vec![Error(400, "AccessDeniedException")], "refused: allow kinesis:DescribeStreamConsumer"),
        (vec![Error(400, "UnknownOperationException"); 3], vec![], "refused: UnknownOperationException"),
    ] {
        let script = Script::default();
        script.next("DescribeStreamConsumer", describe);
        script.next("RegisterStreamConsumer", register);
        script.next("SubscribeToShard", [Push(vec![Event(&[1], Some(1), &[])])]);
        let times = FanOutTimes { registration_max: Duration::from_millis(600), ..TIMES };
        let source = source(&script.serve().await?, "orders", times)?;
        check(&mut source.subscribe(&shard(), Position::TrimHorizon), &[expected]).await?;
        if expected.starts_with("refused") {
            let asked = script.asked("RegisterStreamConsumer").len();
            check(&mut source.subscribe(&shard(), Position::TrimHorizon), &[expected]).await?;
            assert_eq!(script.asked("RegisterStreamConsumer").len(), asked, "the answer holds for a while");
            tokio::time::sleep(TIMES.refusal_holds).await;
            check(&mut source.subscribe(&shard(), Position::TrimHorizon), &["1 then 1"]).await?;
        }
        for asked in script.asked("RegisterStreamConsumer") {
            assert_eq!(asked.body["ConsumerName"], "pelton-orders");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_shard_of_a_real_api_is_pushed_to_its_end() -> Result<()> {
    let plain = connections().await;
    let stream = fresh("pushed");
    create_stream(&plain, &stream, 1).await?;
    let put = async |number: u32| {
        let put = plain.kinesis.put_record().stream_name(&stream).partition_key(number.to_string());
        put.data(Blob::new(number.to_string())).send().await
    };
    for number in 0..5 {
        put(number).await?;
    }
    let source = source(&plain, &stream, FanOutTimes::UNLIMITED)?;
    let mut subscription = source.subscribe(&shard(), Position::TrimHorizon);
    let (mut data, mut is_split) = (Vec::<Vec<u8>>::new(), false);
    loop {
        let reply = tokio::time::timeout(LIMIT, subscription.0.next()).await?.context("it has no end")??;
        data.extend(reply.records.iter().map(|record| record.data.to_vec()));
        match (reply.next, data.len()) {
            (None, _) => break,
            (Some(_), 5) if !is_split => {
                is_split = true;
                put(5).await?;
                let half = (u128::MAX / 2).to_string();
                let split = plain.kinesis.split_shard().stream_name(&stream).shard_to_split("shardId-000000000000");
                split.new_starting_hash_key(half).send().await?;
            }
            (Some(_), _) => {}
        }
        ensure!(data.len() <= 6, "no record comes twice");
    }
    assert_eq!(data, [b"0", b"1", b"2", b"3", b"4", b"5"]);
    Ok(())
}
