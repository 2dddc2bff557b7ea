//! Makes the seeds of the corpus anew: `cargo run --bin pelton-seeds`.

use std::fs;

fn main() -> std::io::Result<()> {
    for seed in pelton_fuzz::seeds::all() {
        let folder = pelton_fuzz::corpus::folder(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(seed.name), seed.bytes)?;
    }
    Ok(())
}
