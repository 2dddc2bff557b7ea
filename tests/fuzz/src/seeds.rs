//! What the corpus begins with: of each format something of every kind that it has, and what is nearly right.

mod commits;
mod documents;
mod packed;

/// An input by its name.
pub struct Seed {
    /// The target it is for.
    pub target: &'static str,
    /// Says what it is.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Every seed.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, of: Vec<(&'static str, Vec<u8>)>| {
        seeds.extend(of.into_iter().map(|(name, bytes)| Seed { target, name, bytes }));
    };
    add("kpl", packed::aggregates());
    add("commit", commits::commits());
    add("commit", commits::entries());
    add("snapshot", packed::snapshots());
    add("config", documents::configs());
    add("http_body", documents::requests());
    add("component", documents::components());
    seeds
}
