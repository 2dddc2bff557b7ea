//! `[jobs.NAME.grants]`: what a deployment grants its instances beside their own task. Nothing where it is not there.

use std::collections::BTreeSet;

use pelton_engine::{Grants, HttpHost};

use super::document::{Table, found};
use super::job::texts;
use super::keys::TableKind;

/// What the table of a job says.
pub fn resolve(job: &Table<'_>) -> Grants {
    let Some(table) = job.child("grants", TableKind::Grants) else { return Grants::default() };
    let grants = Grants { env: texts(&table, "env"), http: http(&table) };
    if let Err(why) = grants.check() {
        table.fault_of("", &why);
    }
    grants
}

fn http(table: &Table<'_>) -> BTreeSet<HttpHost> {
    let mut hosts = BTreeSet::new();
    for value in table.array("http", "a list of hosts such as [\"api.example.com\"]") {
        let Some(text) = value.get_ref().as_str() else {
            let found = found(value.get_ref());
            table.fault(value.span(), &format!("`http` has {found}; expected a host such as \"api.example.com\""));
            continue;
        };
        match text.parse() {
            Ok(host) => {
                if !hosts.insert(host) {
                    table.fault(value.span(), &format!("`http` has {text:?} twice"));
                }
            }
            Err(why) => table.fault(value.span(), &format!("`http`: {why}")),
        }
    }
    hosts
}
