//! The embedded servers as a process, reached by the AWS SDK.

// A test that fails says where.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};

/// A process that is killed when it is dropped.
struct Servers {
    child: Child,
    kinesis: String,
}

impl Servers {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pelton"));
        command.args(["dev", "--servers-only", "--kinesis-port", "0", "--dynamodb-port", "0", "--json"]).args(more);
        let mut child = command.current_dir(folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, kinesis: said["kinesis"].as_str().unwrap().to_owned() }
    }

    fn client(&self) -> Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(&self.kinesis)
            .build();
        Client::from_conf(config)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a stream of one shard.
async fn create(client: &Client, stream: &str) {
    client.create_stream().stream_name(stream).shard_count(1).send().await.unwrap();
    for _ in 0..200 {
        let summary = client.describe_stream_summary().stream_name(stream).send().await.unwrap();
        if summary.stream_description_summary.unwrap().stream_status == StreamStatus::Active {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("stream {stream} does not become active");
}

/// The data and sequence numbers of a stream of one shard.
async fn read(client: &Client, stream: &str) -> Vec<(String, String)> {
    let shards = client.list_shards().stream_name(stream).send().await.unwrap().shards.unwrap();
    let request = client.get_shard_iterator().stream_name(stream).shard_id(&shards[0].shard_id);
    let iterator = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap().shard_iterator;
    let records = client.get_records().set_shard_iterator(iterator).send().await.unwrap().records.into_iter();
    records.map(|record| (String::from_utf8(record.data.into_inner()).unwrap(), record.sequence_number)).collect()
}

fn put(folder: &Path, servers: &Servers, stream: &str, file: &str) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelton"));
    command.current_dir(folder).args(["put", stream, "--file", file, "--endpoint-url", &servers.kinesis, "--json"]);
    command.output().unwrap()
}

#[tokio::test]
async fn records_put_are_read_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start(folder.path(), &[]);
    let client = servers.client();
    create(&client, "orders").await;
    let line = |n: u32| format!("{{\"key\": \"k{}\", \"data\": \"{n}\"}}\n", n % 7);
    std::fs::write(folder.path().join("in.ndjson"), (0..2_000).map(line).collect::<String>()).unwrap();
    let output = put(folder.path(), &servers, "orders", "in.ndjson");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["records"], 2_000);
    let read: Vec<u32> = read(&client, "orders").await.iter().map(|(data, _)| data.parse().unwrap()).collect();
    for key in 0..7 {
        let of_key: Vec<u32> = read.iter().copied().filter(|n| n % 7 == key).collect();
        assert!(of_key.is_sorted() && of_key.len() == (0..2_000).filter(|n| n % 7 == key).count(), "key {key}");
    }
}

#[tokio::test]
async fn a_wrong_file_puts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start(folder.path(), &[]);
    let client = servers.client();
    create(&client, "orders").await;
    std::fs::write(folder.path().join("in.ndjson"), "{\"key\":\"a\",\"data\":\"1\"}\nnonsense\n").unwrap();
    let output = put(folder.path(), &servers, "orders", "in.ndjson");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("in.ndjson: line 2: "), "{said}");
    assert!(read(&client, "orders").await.is_empty());
}

#[tokio::test]
async fn streams_outlive_their_server_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start(folder.path(), &["--data", "data"]);
    let client = servers.client();
    create(&client, "orders").await;
    for n in 0..50 {
        let put = client.put_record().stream_name("orders").partition_key("k");
        put.data(aws_sdk_kinesis::primitives::Blob::new(n.to_string())).send().await.unwrap();
    }
    let before = read(&client, "orders").await;
    servers.kill();
    // As if the kill had come in the middle of a write.
    let log = std::fs::OpenOptions::new().append(true).open(folder.path().join("data/kinesis/wal.log"));
    log.unwrap().write_all(&1_000u64.to_le_bytes()).unwrap();
    let servers = Servers::start(folder.path(), &["--data", "data"]);
    let client = servers.client();
    assert_eq!(read(&client, "orders").await, before);
    let put = client.put_record().stream_name("orders").partition_key("k");
    let after = put.data(aws_sdk_kinesis::primitives::Blob::new("51")).send().await.unwrap();
    assert!(after.sequence_number > before.last().unwrap().1, "numbers go on rising");
    servers.kill();
    let servers = Servers::start(folder.path(), &["--data", "data"]);
    assert_eq!(read(&servers.client(), "orders").await.len(), before.len() + 1);
}
