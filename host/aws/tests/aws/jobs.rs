//! Jobs on real streams and a real table: created once, and refused when anything about them differs.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_aws::{Connections, DynamoTable, JobError, JobRequest, JobTable, OpenedJob, StartRequest};
use pelton_core::id::{Digest, Incarnation};
use pelton_core::job::Start;
use pelton_core::policy::Policies;
use pelton_core::slice::TaskCount;
use pelton_engine::ports::{Clock as _, PortError};

use crate::faults::{Fault, faulty};
use crate::servers::{LIMIT, connections, create_stream, delete_stream, fresh, table};

pub fn request(inputs: &[&str]) -> JobRequest {
    JobRequest {
        policies: Policies::default(),
        name: "orders".into(),
        tasks: TaskCount::new(16).expect("16 is a number of tasks"),
        inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
        outputs: Vec::new(),
        start: StartRequest::Latest,
        component: Some(Digest([7; 32])),
    }
}

pub async fn open(connections: &Connections, table: &DynamoTable, request: &JobRequest) -> Result<OpenedJob, JobError> {
    JobTable::new(table.clone(), connections).open_job(request).await
}

#[tokio::test]
async fn a_job_is_created_once_and_found_again() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (a, b) = (fresh("stream"), fresh("stream"));
    create_stream(&plain, &a, 3).await?;
    create_stream(&plain, &b, 1).await?;
    let wanted = request(&[&a, &b]);
    let began_ms = plain.clock.now_ms();
    let (one, other) = tokio::try_join!(open(&plain, &table, &wanted), open(&plain, &table, &wanted))?;
    assert_eq!(one.meta, other.meta);
    assert!(one.created != other.created, "one of the two created it");
    assert_eq!((one.component, &one.retention_ms[..]), (Digest([7; 32]), &[86_400_000, 86_400_000][..]));
    let Start::At(start_ms) = one.meta.start else { panic!("latest is a point in time") };
    assert!(start_ms.is_multiple_of(1_000) && (began_ms - 1_000..=plain.clock.now_ms()).contains(&start_ms));
    let newest: Vec<String> = one.meta.inputs.iter().map(|input| input.newest_shard.to_string()).collect();
    assert_eq!(newest, ["shardId-000000000002", "shardId-000000000000"]);

    // The component is only for a new job, and its start may be given as what it came to.
    for start in [StartRequest::Latest, StartRequest::At(start_ms)] {
        let again = JobRequest { start, component: Some(Digest([8; 32])), ..wanted.clone() };
        let again = open(&plain, &table, &again).await?;
        assert_eq!((&again.meta, again.component, again.created), (&one.meta, Digest([7; 32]), false));
    }

    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb.clone(), table.name()).await?;
    faults.next("PutItem", [Fault::LoseReply]);
    let lost = open(&through, &behind, &JobRequest { name: "lost".into(), ..wanted }).await?;
    assert!(lost.created, "our own, though its first reply was lost");
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn what_differs_is_named_and_nothing_is_changed() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let (a, b) = (fresh("stream"), fresh("stream"));
    create_stream(&plain, &a, 1).await?;
    create_stream(&plain, &b, 1).await?;
    let known = request(&[&a, &b]);
    let created = open(&plain, &table, &known).await?;

    let tasks = TaskCount::new(32).expect("32 is a number of tasks");
    let later = StartRequest::At(plain.clock.now_ms() + 3_600_000);
    let cases = [
        (JobRequest { tasks, ..known.clone() }, "has 16 tasks, and the configuration says 32"),
        (JobRequest { start: StartRequest::TrimHorizon, ..known.clone() }, "the configuration says \"trim-horizon\""),
        (
            JobRequest { start: StartRequest::At(7_000), ..known.clone() },
            "the configuration says \"1970-01-01T00:00:07Z\"",
        ),
        (JobRequest { inputs: vec![a.clone()], ..known.clone() }, "was created with inputs"),
        (JobRequest { inputs: vec![b.clone(), a.clone()], ..known.clone() }, "was created with inputs"),
        (JobRequest { inputs: vec!["nowhere".into()], ..known.clone() }, "there is no stream nowhere"),
        (JobRequest { outputs: vec!["nowhere".into()], ..known.clone() }, "there is no stream nowhere"),
        (JobRequest { name: "other".into(), start: later, ..known.clone() }, "Kinesis reads nothing from the future"),
    ];
    for (asked, text) in cases {
        let error = open(&plain, &table, &asked).await.err().context(text)?;
        assert!(error.to_string().contains(text) && error.to_string().contains(&asked.name), "{error}");
    }
    let other = JobRequest { name: "other".into(), ..known.clone() };
    assert!(open(&plain, &table, &other).await?.created, "the failed attempts left nothing");
    assert_eq!(open(&plain, &table, &known).await?.meta, created.meta);
    Ok(())
}

#[tokio::test]
async fn what_was_made_again_is_not_the_same() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let known = request(&[&stream]);
    open(&plain, &table, &known).await?;
    let get = || {
        let get = plain.dynamodb.get_item().table_name(table.name());
        get.key("pk", AttributeValue::S("job/orders".into())).key("sk", AttributeValue::S("meta".into())).send()
    };
    let meta = get().await?.item.context("the meta item")?;

    // The table, with the same items in it.
    plain.dynamodb.delete_table().table_name(table.name()).send().await?;
    let again = DynamoTable::open(plain.dynamodb.clone(), table.name()).await?;
    plain.dynamodb.put_item().table_name(table.name()).set_item(Some(meta.clone())).send().await?;
    let error = open(&plain, &again, &known).await.err().context("another table")?;
    assert!(matches!(&error, JobError::Table { known, .. } if *known == table.id()), "{error}");

    // A format to come, and an attribute of one.
    for (attribute, value) in [("format", AttributeValue::N("2".into())), ("colour", AttributeValue::N("1".into()))] {
        let mut later = meta.clone();
        later.insert(attribute.into(), value);
        plain.dynamodb.put_item().table_name(table.name()).set_item(Some(later)).send().await?;
        let error = open(&plain, &table, &known).await.err().context(attribute)?;
        assert!(matches!(&error, JobError::Port { error: PortError::Stop(_), .. }), "{error}");
        assert!(error.to_string().contains(attribute) && error.to_string().contains("newer"), "{error}");
    }
    plain.dynamodb.put_item().table_name(table.name()).set_item(Some(meta)).send().await?;

    // The stream. The handle opened first still says it is the table the job was created in.
    delete_stream(&plain, &stream).await?;
    let error = open(&plain, &table, &known).await.err().context("no stream")?;
    assert!(matches!(error, JobError::NoStream { .. }), "{error}");
    // The server tells the time of creation in whole seconds: made again within the same one, the stream is the same.
    let began = Instant::now();
    let error = loop {
        create_stream(&plain, &stream, 1).await?;
        match open(&plain, &table, &known).await {
            Err(error) => break error,
            Ok(_) => ensure!(began.elapsed() < LIMIT, "a stream made again passes for the one before"),
        }
        delete_stream(&plain, &stream).await?;
    };
    assert!(matches!(&error, JobError::StreamRecreated { .. }), "{error}");
    assert!(error.to_string().contains(&stream), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_lost_job_is_recovered_by_one() -> Result<()> {
    let plain = connections().await;
    let (before, after) = (table(&plain).await?, table(&plain).await?);
    let stream = fresh("stream");
    create_stream(&plain, &stream, 1).await?;
    let created = open(&plain, &before, &request(&[&stream])).await?;
    let job = ["pk", "sk"].into_iter().zip(["job/orders", "meta"]);
    let key = job.map(|(name, key)| (name.to_owned(), AttributeValue::S(key.into()))).collect();
    let meta = plain.dynamodb.get_item().table_name(before.name()).set_key(Some(key)).send().await?;
    plain.dynamodb.put_item().table_name(after.name()).set_item(meta.item).send().await?;

    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb.clone(), after.name()).await?;
    let (one, other) = (JobTable::new(behind, &through), JobTable::new(after.clone(), &plain));
    let (found, seen) = (one.lost("orders").await?, other.lost("orders").await?);
    assert_eq!(found.meta, created.meta);
    // The reply of the first attempt is lost, and the second finds another item than the one that was read: ours.
    faults.next("PutItem", [Fault::LoseReply]);
    one.recovered(found, Incarnation([1; 16])).await?;
    faults.assert_played();
    let error = other.recovered(seen, Incarnation([2; 16])).await.err().context("it was recovered meanwhile")?;
    assert!(matches!(error, JobError::RecoveredElsewhere { .. }), "{error}");
    let opened = open(&plain, &after, &request(&[&stream])).await?;
    assert_eq!(opened.meta.incarnation, Incarnation([1; 16]));
    assert!(matches!(other.lost("orders").await, Err(JobError::NotLost { .. })));
    Ok(())
}
