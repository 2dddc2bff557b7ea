//! A job's configuration by WASI's name for it. What a task is told does not change while it runs.

use super::bindings::stores::wasi::config::store;
use super::instance::HostState;

impl store::Host for HostState {
    fn get(&mut self, key: String) -> Result<Option<String>, store::Error> {
        Ok(self.identity.config.get(&key).cloned())
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, store::Error> {
        Ok(self.identity.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
