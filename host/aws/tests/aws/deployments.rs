//! Deployments on a real table: read as they were written, and those of before there were grants as granted nothing.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use pelton_aws::{DynamoDeployments, layout};
use pelton_core::id::{Digest, Incarnation};
use pelton_engine::ports::Deployments as _;
use pelton_engine::{DeploymentContent, Grants, GuestLimits};

use crate::servers::{connections, table};

#[tokio::test]
async fn what_is_granted_is_kept_as_given() -> Result<()> {
    let plain = connections().await;
    let table = table(&plain).await?;
    let incarnation = Incarnation(pelton_engine::random()?);
    let deployments = DynamoDeployments::new(table.clone(), incarnation, plain.clock.clone());
    let host = |text: &str| text.parse().map_err(anyhow::Error::msg);
    let granted = Grants {
        env: [("NAME".to_owned(), "value".to_owned())].into(),
        http: [host("*.example.com")?, host("http://127.0.0.1:8080")?].into(),
    };
    for grants in [Grants::default(), granted] {
        let content = DeploymentContent {
            component: Digest([7; 32]),
            config: [("key".to_owned(), "value".to_owned())].into(),
            limits: GuestLimits::default(),
            grants,
        };
        let made = deployments.add(&content).await?;
        ensure!(made.content == content, "{made:?}");
        ensure!(deployments.get(made.number).await?.as_ref() == Some(&made), "{made:?} is read as something else");
        let key = |name: String| AttributeValue::S(name);
        let (pk, sk) = (key(layout::deployments(incarnation)), key(layout::deployment(made.number)));
        let item = plain.dynamodb.get_item().table_name(table.name()).key("pk", pk.clone()).key("sk", sk.clone());
        let item = item.send().await?.item.context("it is kept")?;
        let data = item["data"].as_b().ok().context("it has data")?.clone().into_inner();
        // Without grants the last field is the token of before: its key, its length, and 16 bytes.
        let ends_with_token = data[data.len() - 18..].starts_with(&[6 << 3 | 2, 16]);
        ensure!(ends_with_token == (content.grants == Grants::default()), "{data:?}");
        let more = AttributeValue::B(Blob::new([&data[..], &[15 << 3, 1]].concat()));
        let put = plain.dynamodb.put_item().table_name(table.name()).item("pk", pk).item("sk", sk).item("data", more);
        put.send().await?;
        ensure!(deployments.get(made.number).await.is_err(), "what this version does not know is taken");
        let first = deployments.list().await;
        ensure!(first.is_err(), "{first:?}");
        // As it was, for the next one.
        let back = plain.dynamodb.put_item().table_name(table.name()).set_item(Some(item));
        back.send().await?;
    }
    ensure!(deployments.list().await?.len() == 2);
    Ok(())
}
