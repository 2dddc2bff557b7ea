//! Joins orders with their payments by partition key, whichever comes first.
//!
//! **Streams.** Orders come from the stream that the configuration names under `orders`, payments from the one under
//! `payments`; without them, from the streams `orders` and `payments`. Records of both are JSON texts. One that is not
//! is poison; one from any other stream stops the task.
//!
//! **State.** Under the partition key, the half that waits for its other: `{"order":…}` or `{"payment":…}`, with the
//! JSON text as it came. A half that comes again while it waits takes the place of the earlier one. Once joined, both
//! are gone, and the next record under the key waits anew.
//!
//! **Output.** To `joined`, under the partition key: `{"key":"…","order":…,"payment":…}`, the two JSON texts as they came.

use pelton_task::{Batch, Call, Context, Failure, Json, Map, Record, Task};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The half that came first, by partition key.
const WAITING: Map<str, Json<Half>> = Map::new("");

/// One side of a join.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Half {
    Order(Box<RawValue>),
    Payment(Box<RawValue>),
}

/// Both sides.
#[derive(Serialize)]
struct Joined<'a> {
    key: &'a str,
    order: &'a RawValue,
    payment: &'a RawValue,
}

/// A task that joins orders with their payments.
pub struct JoinOrders {
    orders: String,
    payments: String,
}

impl Task for JoinOrders {
    fn init(context: &Context) -> Result<Self, String> {
        let stream = |key| context.config(key).unwrap_or(key).to_owned();
        let (orders, payments) = (stream("orders"), stream("payments"));
        if orders == payments {
            return Err(format!("orders and payments both come from {orders:?}; name two streams in the job's config"));
        }
        Ok(Self { orders, payments })
    }

    fn process_batch(&mut self, batch: &Batch, call: &mut Call) -> Result<(), Failure> {
        WAITING.prefetch(call, batch.records().map(|record| record.partition_key()))?;
        batch.each(|record| self.process(record, call))
    }

    fn process(&mut self, record: &Record<'_>, call: &mut Call) -> Result<(), Failure> {
        let key = record.partition_key();
        let half = self.half(record)?;
        let waiting = WAITING.get(call, key)?.map(|Json(half)| half);
        match (&waiting, &half) {
            (Some(Half::Order(order)), Half::Payment(payment)) | (Some(Half::Payment(payment)), Half::Order(order)) => {
                let joined = serde_json::to_vec(&Joined { key, order, payment }).expect("texts are valid JSON");
                call.emit("joined", key, &joined)?;
                WAITING.delete(call, key)
            }
            (None | Some(Half::Order(_)), Half::Order(_)) | (None | Some(Half::Payment(_)), Half::Payment(_)) => {
                WAITING.put(call, key, &Json(half))
            }
        }
    }
}

pelton_task::export!(JoinOrders);

impl JoinOrders {
    fn half(&self, record: &Record<'_>) -> Result<Half, Failure> {
        let json = || {
            let malformed = |error| Failure::poison(format!("a record of {:?} is not JSON: {error}", record.stream()));
            serde_json::from_slice::<Box<RawValue>>(record.data()).map_err(malformed)
        };
        if record.stream() == self.orders {
            json().map(Half::Order)
        } else if record.stream() == self.payments {
            json().map(Half::Payment)
        } else {
            let (stream, orders, payments) = (record.stream(), &self.orders, &self.payments);
            Err(Failure::fatal(format!(
                "a record came from {stream:?}, which is neither orders ({orders:?}) nor payments ({payments:?}); \
                 name it in the job's config"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_task::FailureKind;
    use pelton_task::testing::Harness;

    /// Runs records written `stream key json`, each in a call of its own and all in one, and compares what was joined
    /// and what waits.
    fn check(records: &[&str], joined: &[&str], waiting: &[&str]) {
        for together in [false, true] {
            let mut harness = Harness::<JoinOrders>::new().output("joined");
            for record in records {
                let [stream, key, json] = record.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{record}") };
                harness.record(stream, key, json);
                if !together {
                    harness.run().unwrap();
                }
            }
            harness.run().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(harness.messages("joined").iter().map(|m| text(&m.data)).collect::<Vec<_>>(), joined);
            assert_eq!(harness.state().iter().map(|(k, v)| text(k) + " " + &text(v)).collect::<Vec<_>>(), waiting);
        }
    }

    #[test]
    fn halves_are_joined_in_either_order() {
        let joined = r#"{"key":"7","order":{"sum": 5},"payment":[1.50]}"#;
        check(&[r#"orders 7 {"sum": 5}"#, "payments 7 [1.50]"], &[joined], &[]);
        check(&["payments 7 [1.50]", r#"orders 7  {"sum": 5} "#], &[joined], &[]);
        check(&["orders 7 1", "payments 8 2"], &[], &[r#"7 {"order":1}"#, r#"8 {"payment":2}"#]);
    }

    #[test]
    fn a_repeat_replaces_what_waits_and_begins_anew_after_a_join() {
        check(&["orders 7 1", "orders 7 2", "payments 7 3"], &[r#"{"key":"7","order":2,"payment":3}"#], &[]);
        let joined = [r#"{"key":"7","order":1,"payment":2}"#, r#"{"key":"7","order":4,"payment":3}"#];
        check(&["orders 7 1", "payments 7 2", "payments 7 3", "orders 7 4"], &joined, &[]);
        check(&["orders 7 1", "payments 7 2", "payments 7 3"], &joined[..1], &[r#"7 {"payment":3}"#]);
    }

    #[test]
    fn what_cannot_be_joined_says_why() {
        let check = |stream, data, kind, index, message: &str| {
            let mut harness = Harness::<JoinOrders>::new().config("orders", "sales").output("joined");
            let failure = harness.record("sales", "7", b"1").record(stream, "7", data).run().unwrap_err();
            assert_eq!((failure.kind(), failure.index()), (kind, Some(index)));
            assert!(failure.message().contains(message), "{failure}");
            assert!(harness.state().is_empty());
        };
        check("payments", "{\"sum\":", FailureKind::Poison, 1, "\"payments\" is not JSON: EOF while parsing");
        check("orders", "1", FailureKind::Fatal, 1, "neither orders (\"sales\")");
    }
}
