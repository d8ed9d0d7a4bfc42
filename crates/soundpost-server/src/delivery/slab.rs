//! Where a worker keeps its connections: numbered slots in chunks, so that growing moves nothing and a quiet server
//! gives the memory of a busy hour back.

use super::ConnectionRef;

/// Slots of one chunk; a chunk without a tenant is freed.
const CHUNK: usize = 64;

/// A slot's number has to fit 24 bits of a socket id.
pub(super) const SLOTS_MAX: usize = 1 << 24;

#[derive(Debug)]
struct Chunk<T> {
    tenants: usize,
    slots: Box<[Option<(u32, T)>]>,
}

/// Numbered places for `T`, each tenant with a generation that no other tenant of the slab soon has again.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    /// Free slots of chunks that exist, the last freed first.
    free: Vec<u32>,
    len: usize,
    /// Given out so far; a slot alone could not remember its own when its chunk was freed.
    generation: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), len: 0, generation: 0 }
    }
}

impl<T> Slab<T> {
    /// Moves in what `build` makes of its own name; `None` if every slot is taken.
    pub fn insert(&mut self, build: impl FnOnce(ConnectionRef) -> T) -> Option<ConnectionRef> {
        if self.free.is_empty() && !self.grow() {
            return None;
        }
        let slot = self.free.pop()?;
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let name = ConnectionRef::new(slot, generation);
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?.as_mut()?;
        *chunk.slots.get_mut(slot as usize % CHUNK)? = Some((generation, build(name)));
        chunk.tenants += 1;
        self.len += 1;
        Some(name)
    }

    /// The tenant of that name, unless it has left.
    pub fn get(&self, name: ConnectionRef) -> Option<&T> {
        let (slot, generation) = name.parts();
        let chunk = self.chunks.get(slot as usize / CHUNK)?.as_ref()?;
        let (tenant, value) = chunk.slots.get(slot as usize % CHUNK)?.as_ref()?;
        (*tenant == generation).then_some(value)
    }

    /// The tenant of that name, unless it has left.
    pub fn get_mut(&mut self, name: ConnectionRef) -> Option<&mut T> {
        let (slot, generation) = name.parts();
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?.as_mut()?;
        let (tenant, value) = chunk.slots.get_mut(slot as usize % CHUNK)?.as_mut()?;
        (*tenant == generation).then_some(value)
    }

    /// Moves the tenant of that name out.
    pub fn remove(&mut self, name: ConnectionRef) -> Option<T> {
        self.get(name)?;
        let (slot, _) = name.parts();
        let place = self.chunks.get_mut(slot as usize / CHUNK)?;
        let chunk = place.as_mut()?;
        let (_, value) = chunk.slots.get_mut(slot as usize % CHUNK)?.take()?;
        chunk.tenants -= 1;
        self.len -= 1;
        self.free.push(slot);
        // One empty chunk stays, so that a single client coming and going costs no allocation.
        if chunk.tenants == 0 && self.free.len() >= 2 * CHUNK {
            *place = None;
            let freed = slot as usize / CHUNK;
            self.free.retain(|slot| *slot as usize / CHUNK != freed);
            while self.chunks.last().is_some_and(Option::is_none) {
                self.chunks.pop();
            }
            self.chunks.shrink_to(self.chunks.len() * 2);
            self.free.shrink_to(self.free.len() * 2);
        }
        Some(value)
    }

    /// Tenants.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The names of all tenants.
    pub fn names(&self) -> impl Iterator<Item = ConnectionRef> {
        let slots = self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let slots = chunk.iter().flat_map(|chunk| chunk.slots.iter());
            slots.enumerate().map(move |(within, slot)| (at * CHUNK + within, slot))
        });
        slots.filter_map(|(slot, tenant)| {
            let (generation, _) = tenant.as_ref()?;
            Some(ConnectionRef::new(u32::try_from(slot).ok()?, *generation))
        })
    }

    fn grow(&mut self) -> bool {
        let hole = self.chunks.iter().position(Option::is_none);
        let at = hole.unwrap_or(self.chunks.len());
        if (at + 1) * CHUNK > SLOTS_MAX {
            return false;
        }
        let chunk = Chunk { tenants: 0, slots: (0..CHUNK).map(|_| None).collect() };
        match self.chunks.get_mut(at) {
            Some(hole) => *hole = Some(chunk),
            None => self.chunks.push(Some(chunk)),
        }
        let slots = (at * CHUNK..(at + 1) * CHUNK).rev();
        self.free.extend(slots.filter_map(|slot| u32::try_from(slot).ok()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outlives_its_tenant_without_meaning_the_next() {
        let mut slab = Slab::default();
        let first = slab.insert(|_| "first").unwrap();
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert(|_| "second").unwrap();
        assert_eq!(first.parts().0, second.parts().0, "the slot is used again");
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
    }

    #[test]
    fn chunks_without_tenants_are_freed_and_made_again() {
        let mut slab = Slab::default();
        let names: Vec<_> = (0..1000).map(|n| slab.insert(|_| n).unwrap()).collect();
        assert_eq!((slab.len(), slab.names().count()), (1000, 1000));
        for name in &names[10..] {
            slab.remove(*name).unwrap();
        }
        assert_eq!(slab.names().collect::<Vec<_>>(), &names[..10]);
        assert!(slab.chunks.iter().flatten().count() <= 2);
        let again: Vec<_> = (0..500).map(|n| slab.insert(|_| n).unwrap()).collect();
        assert_eq!(slab.len(), 510);
        assert!(again.iter().zip(0..).all(|(name, n)| slab.get(*name) == Some(&n)));
        assert!(names[10..].iter().all(|name| slab.get(*name).is_none()));
    }
}
