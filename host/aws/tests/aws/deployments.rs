//! Deployments on a real table: read as they were written, and those of before there were grants as granted nothing; each has a
//! number of its own, and what stands is replaced by what follows it alone.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::try_join_all;
use pelton_aws::{DynamoDeployments, DynamoTable, layout};
use pelton_core::id::{DeploymentNumber, Digest, Incarnation};
use pelton_core::rollout::Rollout;
use pelton_engine::ports::{Deployments as _, PutOutcome};
use pelton_engine::{DeploymentContent, Grants, GuestLimits};

use crate::faults::{Fault, Faults, faulty};
use crate::servers::{connections, table};

/// Two hosts that see the same deployments, and what happens to the requests of the first.
async fn two_hosts() -> Result<([DynamoDeployments; 2], Faults)> {
    let plain = connections().await;
    let (table, incarnation) = (table(&plain).await?, Incarnation(pelton_engine::random()?));
    let (through, faults) = faulty(&plain);
    let behind = DynamoTable::open(through.dynamodb.clone(), table.name()).await?;
    let first = DynamoDeployments::new(behind, incarnation, through.clock.clone());
    Ok(([first, DynamoDeployments::new(table, incarnation, plain.clock.clone())], faults))
}

fn content(component: u8) -> DeploymentContent {
    let (config, limits, grants) = (Default::default(), GuestLimits::default(), Grants::default());
    DeploymentContent { component: Digest([component; 32]), config, limits, grants }
}

#[tokio::test]
async fn a_deployment_has_a_number_of_its_own_whatever_is_lost() -> Result<()> {
    let ([first, second], faults) = two_hosts().await?;
    faults.next("PutItem", [Fault::LoseReply]);
    ensure!(first.add(&content(1)).await?.number == DeploymentNumber(1), "what was put is seen to be ours");
    // Neither knows of the number that the other takes.
    let contents: Vec<_> = (2..10).map(content).collect();
    let authors = contents.iter().zip([&first, &second].into_iter().cycle());
    let made = try_join_all(authors.map(|(content, host)| host.add(content))).await?;
    ensure!(made.iter().zip(&contents).all(|(made, content)| made.content == *content), "{made:?}");
    let listed = second.list().await?;
    ensure!(listed.iter().map(|deployment| deployment.number.0).eq(1..10), "{listed:?}");
    for made in made {
        ensure!(listed.contains(&made), "{made:?} is another's in {listed:?}");
    }
    faults.assert_played();
    Ok(())
}

#[tokio::test]
async fn what_stands_is_replaced_by_what_follows_it_alone() -> Result<()> {
    let ([first, second], faults) = two_hosts().await?;
    let [one, two, three] = [1, 2, 3].map(DeploymentNumber);
    let standing = Rollout::first(one);
    ensure!(first.set_rollout(&standing).await? == PutOutcome::Applied);
    ensure!(second.set_rollout(&Rollout::first(two)).await? == PutOutcome::Exists, "a job begins once");

    // Of two that follow the same the first is what stands.
    let (promoted, taken_back) = (standing.deploy(two), standing.deploy(three));
    ensure!(first.set_rollout(&promoted).await? == PutOutcome::Applied);
    ensure!(second.set_rollout(&taken_back).await? == PutOutcome::Exists);
    ensure!(second.rollout().await?.as_ref() == Some(&promoted));

    // One that is under way while another is made comes too late, and one whose reply is lost is what stands.
    let (late, made) = (promoted.deploy(three), promoted.deploy(one));
    faults.next("PutItem", [Fault::Held]);
    ensure!(first.set_rollout(&late).await? == PutOutcome::Applied, "it is made by the second attempt");
    ensure!(second.set_rollout(&made).await? == PutOutcome::Exists);
    let next = late.deploy(one);
    ensure!(second.set_rollout(&next).await? == PutOutcome::Applied);
    faults.release().await;
    ensure!(second.rollout().await?.as_ref() == Some(&next), "the first attempt is done after all");
    faults.next("PutItem", [Fault::LoseReply]);
    let last = next.deploy(two);
    ensure!(first.set_rollout(&last).await? == PutOutcome::Exists, "the second attempt does not know the first");
    ensure!(second.rollout().await?.as_ref() == Some(&last));
    faults.assert_played();
    Ok(())
}

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
