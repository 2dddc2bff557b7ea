//! Growth: what an instance's memories and tables take together, which never passes its job's limits.

use wasmtime::ResourceLimiter;

use super::limits::{GuestLimits, Limit, Refused};

/// What an instance has grown to. Memories and tables do not shrink, so it only rises; what was granted and the system had
/// not got stays counted, since a guest could have that said of any growth.
#[derive(Debug)]
pub(super) struct Growth {
    limits: GuestLimits,
    memory_bytes: u64,
    table_elements: u64,
    /// What was refused last.
    pub refused: Option<Refused>,
}

impl Growth {
    pub fn new(limits: GuestLimits) -> Self {
        Self { limits, memory_bytes: 0, table_elements: 0, refused: None }
    }

    /// Bytes of all memories.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn refuse(&mut self, limit: Limit, allowed: u64) -> bool {
        self.refused = Some(Refused { limit, allowed });
        false
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if total > self.limits.memory_bytes_max {
            return Ok(self.refuse(Limit::Memory, self.limits.memory_bytes_max));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        let allowed = self.limits.table_elements_max as u64;
        if total > allowed {
            return Ok(self.refuse(Limit::TableElements, allowed));
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.core_parts_max as usize
    }

    fn tables(&self) -> usize {
        self.limits.core_parts_max as usize
    }

    fn memories(&self) -> usize {
        self.limits.core_parts_max as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_and_all_tables_together_stay_within_the_limits() {
        let limits = GuestLimits { table_elements_max: 10, ..GuestLimits::default() };
        let mut growth = Growth::new(GuestLimits { memory_bytes_max: 100, ..limits });
        let granted = [(0, 40, None), (0, 60, None), (40, 41, None), (60, 200, Some(150))];
        let granted = granted.map(|(from, to, most)| growth.memory_growing(from, to, most).unwrap());
        assert_eq!(granted, [true, true, false, false]);
        assert_eq!(growth.refused, Some(Refused { limit: Limit::Memory, allowed: 100 }));
        let granted = [(0, 5), (0, 5), (5, 6)].map(|(from, to)| growth.table_growing(from, to, None).unwrap());
        assert_eq!(granted, [true, true, false]);
        assert_eq!(growth.refused, Some(Refused { limit: Limit::TableElements, allowed: 10 }));
    }
}
