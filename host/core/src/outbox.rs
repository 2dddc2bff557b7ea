//! The outbox: outputs of durable commits on their way out. Nothing of commit n + 1 is sent before all of n is
//! acknowledged, and at most one package per partition key is unacknowledged, so order within a key survives failures.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{CommitNumber, Incarnation, TaskId};
use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_COMMITS_MAX, PACKAGE_BYTES_MAX, ROUND_PACKAGES_MAX};
use crate::mutant::{Mutant, wrong};
use crate::output::{Output, OutputId, Package};

/// Outputs of durable commits, until they are acknowledged.
#[derive(Debug)]
pub struct Outbox {
    incarnation: Incarnation,
    task: TaskId,
    waiting: VecDeque<(CommitNumber, Vec<Output>)>,
    waiting_bytes: usize,
    current: Option<Publication>,
    published: u64,
}

/// The commit whose outputs are being published.
#[derive(Debug)]
struct Publication {
    commit: CommitNumber,
    bytes: usize,
    /// Packages not yet acknowledged, those of one output and partition key behind one another.
    lanes: Vec<VecDeque<Package>>,
    /// Lanes whose first package is in the round under way.
    in_flight: Vec<usize>,
    attempt: u32,
}

/// What an acknowledged round leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// More of the same commit is to be sent.
    More,
    /// All outputs of this commit are acknowledged.
    Complete(CommitNumber),
}

impl Outbox {
    /// An empty outbox.
    pub fn new(incarnation: Incarnation, task: TaskId) -> Self {
        Self { incarnation, task, waiting: VecDeque::new(), waiting_bytes: 0, current: None, published: 0 }
    }

    /// Goes on counting what was acknowledged before the task began anew.
    #[must_use]
    pub fn counting_from(self, before: &Self) -> Self {
        Self { published: before.published, ..self }
    }

    /// Takes the outputs of a commit that is durable.
    ///
    /// # Panics
    /// When a later commit is in the outbox already.
    pub fn push(&mut self, commit: CommitNumber, outputs: Vec<Output>) {
        assert!(self.waiting.back().is_none_or(|(last, _)| *last < commit), "commits are published in their order");
        self.waiting_bytes += weigh(&outputs);
        self.waiting.push_back((commit, outputs));
    }

    /// Whether so much waits that nothing more should be folded.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= OUTBOX_COMMITS_MAX || self.waiting_bytes >= OUTBOX_BYTES_MAX
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// How many outputs are not acknowledged.
    pub fn pending(&self) -> u64 {
        let waiting = self.waiting.iter().map(|(_, outputs)| outputs.len());
        let current = self.current.iter().flat_map(|publication| publication.lanes.iter().flatten());
        (waiting.sum::<usize>() + current.map(|package| package.entries.len()).sum::<usize>()) as u64
    }

    /// How many outputs were acknowledged since the task began here.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The next round to send and its attempt, unless one is under way or nothing waits.
    pub fn next_round(&mut self) -> Option<(Vec<Package>, u32)> {
        if self.current.is_none() {
            let (commit, outputs) = self.waiting.pop_front()?;
            let bytes = weigh(&outputs);
            self.current = Some(self.publication(commit, outputs, bytes));
        }
        let publication = self.current.as_mut()?;
        if !publication.in_flight.is_empty() {
            return None;
        }
        let ready = publication.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_empty());
        publication.in_flight = ready.map(|(index, _)| index).take(ROUND_PACKAGES_MAX).collect();
        let packages = publication.in_flight.iter().map(|index| publication.lanes[*index][0].clone());
        Some((packages.collect(), publication.attempt))
    }

    /// Takes, for each package of the round under way, whether it was acknowledged.
    ///
    /// # Panics
    /// When no round of so many packages is under way.
    pub fn answered(&mut self, acknowledged: &[bool]) -> Round {
        let publication = self.current.as_mut().expect("a round is under way");
        let in_flight = std::mem::take(&mut publication.in_flight);
        assert_eq!(in_flight.len(), acknowledged.len(), "every package of the round is answered");
        let all = wrong(Mutant::SomeArrivedIsAll) && acknowledged.contains(&true);
        for (index, acknowledged) in in_flight.into_iter().zip(acknowledged) {
            if *acknowledged || all {
                let package = publication.lanes[index].pop_front().expect("the package in flight is the lane's first");
                self.published += package.entries.len() as u64;
            }
        }
        publication.attempt = if acknowledged.contains(&true) { 0 } else { publication.attempt + 1 };
        if publication.lanes.iter().any(|lane| !lane.is_empty()) {
            return Round::More;
        }
        let commit = publication.commit;
        self.waiting_bytes -= publication.bytes;
        self.current = None;
        Round::Complete(commit)
    }

    fn publication(&self, commit: CommitNumber, outputs: Vec<Output>, bytes: usize) -> Publication {
        let mut lanes: Vec<VecDeque<Package>> = Vec::new();
        let mut lane_of: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (index, output) in outputs.into_iter().enumerate() {
            let id = OutputId {
                incarnation: self.incarnation,
                task: self.task,
                commit,
                index: index as u32,
                rewind: output.rewind,
            };
            let key = (output.output, output.partition_key);
            let mut new_lane = || {
                lanes.push(VecDeque::new());
                lanes.len() - 1
            };
            let lane = match wrong(Mutant::KeyWithoutOrder) {
                true => new_lane(),
                false => *lane_of.entry(key.clone()).or_insert_with(new_lane),
            };
            let entry = (id, output.data);
            match lanes[lane].back_mut() {
                Some(package) if package.weight() + entry.1.len() <= PACKAGE_BYTES_MAX => package.entries.push(entry),
                _ => lanes[lane].push_back(Package { output: key.0, partition_key: key.1, entries: vec![entry] }),
            }
        }
        Publication { commit, bytes, lanes, in_flight: Vec::new(), attempt: 0 }
    }
}

/// Bytes that naming one output takes in a package, at most: its id as a tag, and the framing.
const ENTRY_OVERHEAD_BYTES: usize = 128;

impl Package {
    /// What the package takes in a Kinesis record, at most, in bytes.
    pub fn weight(&self) -> usize {
        let entries = self.entries.iter().map(|(_, data)| data.len() + ENTRY_OVERHEAD_BYTES);
        self.partition_key.len() + entries.sum::<usize>()
    }
}

fn weigh(outputs: &[Output]) -> usize {
    outputs.iter().map(Output::weight).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(text: &str) -> Vec<Output> {
        let output = |word: &str| Output {
            output: "out".into(),
            partition_key: word[..1].into(),
            data: word.as_bytes().to_vec().into(),
            rewind: None,
        };
        text.split(' ').map(output).collect()
    }

    fn sent(outbox: &mut Outbox) -> String {
        let (packages, _) = outbox.next_round().expect("a round");
        let text = |package: &Package| {
            let entries = package.entries.iter();
            entries.map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect::<Vec<_>>().join("+")
        };
        packages.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_commit_waits_for_the_one_before_and_a_key_for_its_failure() {
        let mut outbox = Outbox::new(Incarnation::default(), TaskId(0));
        outbox.push(CommitNumber(1), outputs("a1 b1 a2"));
        outbox.push(CommitNumber(2), outputs("a3"));
        assert_eq!(sent(&mut outbox), "a1+a2 b1");
        assert!(outbox.next_round().is_none(), "one round at a time");
        assert_eq!(outbox.answered(&[false, true]), Round::More);
        assert_eq!(sent(&mut outbox), "a1+a2", "nothing of commit 2 before all of commit 1");
        assert_eq!(outbox.answered(&[true]), Round::Complete(CommitNumber(1)));
        assert_eq!(sent(&mut outbox), "a3");
        assert_eq!(outbox.answered(&[true]), Round::Complete(CommitNumber(2)));
        assert!(outbox.is_empty());
    }
}
