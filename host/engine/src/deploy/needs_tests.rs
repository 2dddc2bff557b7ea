use std::collections::btree_map::Entry;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use pelton_core::id::{Incarnation, TaskId};
use pelton_core::rollout::{Canary, Shadow};

use super::*;
use crate::cell::lock;
use crate::guest::{Compiler, Grants, GuestLimits, GuestLines, GuestRuntime, Room};
use crate::ports::{ComponentStore, Deployments};
use crate::spec::{Deployment, DeploymentContent};

fn canary(deployment: u64) -> Canary {
    Canary { deployment: DeploymentNumber(deployment), tasks: [TaskId(0)].into(), rule: 3.into(), since: 0 }
}

fn digest(deployment: u64) -> Digest {
    Digest([deployment as u8; 32])
}

fn numbers(deployments: BTreeSet<DeploymentNumber>) -> Vec<u64> {
    deployments.into_iter().map(|deployment| deployment.0).collect()
}

#[test]
fn a_job_needs_what_runs_what_is_tried_and_what_ran_before() {
    let first = Rollout::first(DeploymentNumber(1));
    let second = first.deploy(DeploymentNumber(2));
    let third = second.deploy(DeploymentNumber(3));
    let tried = third.try_out(canary(4));
    let shadowed = third.compare(Shadow { deployment: DeploymentNumber(5), share_percent: 5 });
    let cases = [(&first, vec![1]), (&second, vec![1, 2]), (&third, vec![2, 3]), (&tried, vec![2, 3, 4])];
    for (rollout, expected) in cases.into_iter().chain([(&shadowed, vec![2, 3, 5])]) {
        assert_eq!(numbers(needed(rollout)), expected, "{rollout:?}");
    }
    let changes = [
        (&third, third.deploy(DeploymentNumber(1)), vec![1]),
        (&third, third.deploy(DeploymentNumber(2)), vec![]),
        (&third, third.try_out(canary(4)), vec![4]),
        (&tried, tried.promote().unwrap(), vec![]),
        (&tried, tried.without_canary(DeploymentNumber(4)).unwrap(), vec![]),
        (&shadowed, shadowed.without_shadow().unwrap(), vec![]),
    ];
    for (standing, next, expected) in changes {
        assert_eq!(numbers(needed_anew(standing, &next)), expected, "{standing:?} {next:?}");
    }
}

#[test]
fn a_use_is_over_only_where_nothing_needs_it_and_lasts_beyond_the_window() {
    let used = ComponentUse { job: Incarnation::default(), until_ms: None, pins: 1 };
    let said = [(digest(1), used), (digest(2), used)].into();
    let account = Account::new(&[digest(2), digest(3)].into(), &said);
    assert_eq!(account, Account { over: vec![digest(1)], unsaid: vec![digest(3)] });
    assert_eq!(Account::new(&[digest(1), digest(2)].into(), &said), Account::default());

    let until_ms = ends_ms(1_000, 3_600_000);
    assert_eq!(until_ms, 1_000 + 3_600_000 + UNWANTED_MS);
    let over = ComponentUse { until_ms: Some(until_ms), ..used };
    assert!(used.holds(u64::MAX) && over.holds(until_ms - 1) && !over.holds(until_ms));
}

/// What hosts share: a job whose deployment N has the component of digest N. The first is current, and nothing says so yet.
struct Table {
    rollout: Mutex<Rollout>,
    uses: Mutex<BTreeMap<Digest, ComponentUse>>,
    gone: BTreeSet<Digest>,
    /// What another host does before the next change of the rollout is written.
    meanwhile: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[async_trait]
impl ComponentStore for Table {
    async fn put(&self, _: Digest, _: Bytes) -> Result<(), PortError> {
        unreachable!("nothing is pushed")
    }

    async fn get(&self, _: Digest) -> Result<Option<Bytes>, PortError> {
        unreachable!("nothing is loaded")
    }

    async fn list(&self) -> Result<Vec<(Digest, u64)>, PortError> {
        Ok((1..=9).map(|number| (digest(number), 1)).collect())
    }

    async fn keep(&self, component: Digest, job: Incarnation) -> Result<bool, PortError> {
        match lock(&self.uses).entry(component) {
            Entry::Vacant(none) => drop(none.insert(ComponentUse { job, until_ms: None, pins: 1 })),
            Entry::Occupied(mut used) => {
                let pins = used.get().pins + 1;
                used.insert(ComponentUse { job, until_ms: None, pins });
            }
        }
        Ok(!self.gone.contains(&component))
    }

    async fn uses(&self, component: Digest) -> Result<Vec<ComponentUse>, PortError> {
        Ok(lock(&self.uses).get(&component).copied().into_iter().collect())
    }

    async fn release(&self, component: Digest, known: &ComponentUse, until_ms: u64) -> Result<PutOutcome, PortError> {
        match lock(&self.uses).get_mut(&component) {
            Some(used) if used == known => used.until_ms = Some(until_ms),
            _ => return Ok(PutOutcome::Exists),
        }
        Ok(PutOutcome::Applied)
    }

    async fn collect(&self, _: Digest, _: u64) -> Result<Collected, PortError> {
        Ok(Collected::Kept)
    }
}

#[async_trait]
impl Deployments for Table {
    async fn add(&self, _: &DeploymentContent) -> Result<Deployment, PortError> {
        unreachable!("they are all there")
    }

    async fn get(&self, number: DeploymentNumber) -> Result<Option<Deployment>, PortError> {
        let (limits, grants) = (GuestLimits::default(), Grants::default());
        let content = DeploymentContent { component: digest(number.0), config: BTreeMap::new(), limits, grants };
        Ok(Some(Deployment { number, created_ms: 0, content }))
    }

    async fn list(&self) -> Result<Vec<Deployment>, PortError> {
        unreachable!("nobody asks for all")
    }

    async fn rollout(&self) -> Result<Option<Rollout>, PortError> {
        Ok(Some(lock(&self.rollout).clone()))
    }

    async fn set_rollout(&self, rollout: &Rollout) -> Result<PutOutcome, PortError> {
        let meanwhile = lock(&self.meanwhile).take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        let mut standing = lock(&self.rollout);
        if standing.revision + 1 != rollout.revision {
            return Ok(PutOutcome::Exists);
        }
        *standing = rollout.clone();
        Ok(PutOutcome::Applied)
    }
}

impl Table {
    fn new(gone: &[u64]) -> Arc<Self> {
        Arc::new(Self {
            rollout: Mutex::new(Rollout::first(DeploymentNumber(1))),
            uses: Mutex::default(),
            gone: gone.iter().map(|number| digest(*number)).collect(),
            meanwhile: Mutex::default(),
        })
    }

    /// A host of the job.
    fn host(self: &Arc<Self>) -> Fleet {
        let cache = tempfile::tempdir().unwrap();
        let guests = GuestRuntime::new(cache.path(), Room::for_tasks(1), Compiler::Here).unwrap();
        let stores = (self.clone() as Arc<dyn ComponentStore>, self.clone() as Arc<dyn Deployments>);
        let rollout = lock(&self.rollout).clone();
        Fleet::with(Incarnation::default(), guests, stores, (GuestLines::new(|| 0), rollout))
    }

    /// Of each use when it ends, if it does.
    fn uses(&self) -> Vec<(u64, Option<u64>)> {
        lock(&self.uses).iter().map(|(component, used)| (component.0[0].into(), used.until_ms)).collect()
    }

    fn current(&self) -> (u64, u64) {
        let rollout = lock(&self.rollout);
        (rollout.current.0, rollout.revision)
    }
}

async fn deploy(host: &Fleet, number: u64) -> Result<Rollout, DeployError> {
    host.change(|rollout| Ok(rollout.deploy(DeploymentNumber(number)))).await
}

#[tokio::test]
async fn what_is_left_is_said_to_be_over_and_what_is_needed_to_be_needed() {
    let table = Table::new(&[4]);
    let host = table.host();
    host.account(100).await.unwrap();
    assert_eq!((table.uses(), table.current()), (vec![(1, None)], (1, 1)), "nothing is over");
    deploy(&host, 2).await.unwrap();
    deploy(&host, 3).await.unwrap();
    host.account(200).await.unwrap();
    assert_eq!(table.uses(), [(1, Some(200)), (2, None), (3, None)]);
    host.account(300).await.unwrap();
    assert_eq!((table.uses()[0], table.current()), ((1, Some(200)), (3, 4)), "it is said once");
    deploy(&host, 1).await.unwrap();
    assert_eq!(table.uses(), [(1, None), (2, None), (3, None)]);
    let refused = deploy(&host, 4).await.unwrap_err();
    assert!(matches!(refused, DeployError::NoComponent(component) if component == digest(4)), "{refused}");
    assert_eq!(table.current().0, 1, "what is not kept is not run");
}

#[tokio::test]
async fn what_a_change_under_way_needs_is_not_over() {
    // One host judges that the second is not needed while another deploys it, and the other way round.
    for judges_first in [true, false] {
        let table = Table::new(&[]);
        let (host, other) = (table.host(), table.host());
        host.keep_standing(&host.rollout()).await.unwrap();
        host.keep(digest(2)).await.unwrap();
        let meanwhile = async move {
            if judges_first { drop(deploy(&other, 2).await.unwrap()) } else { other.account(100).await.unwrap() }
        };
        *lock(&table.meanwhile) = Some(meanwhile.boxed());
        if judges_first {
            host.account(100).await.unwrap()
        } else {
            drop(deploy(&host, 2).await.unwrap())
        }
        assert_eq!(table.uses(), [(1, None), (2, None)], "{judges_first}");
        assert_eq!(table.current(), (2, if judges_first { 2 } else { 3 }), "{judges_first}");
    }
}
