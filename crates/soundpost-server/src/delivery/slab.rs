//! Where a worker keeps its connections: numbered slots in chunks, so that growing moves nothing and a quiet server
//! gives the memory of a busy hour back.

use super::ConnectionRef;

/// Slots of one chunk, as many as a word has bits; a chunk without a tenant is freed.
const CHUNK: usize = 64;

/// A slot's number has to fit 24 bits of a socket id.
pub(super) const SLOTS_MAX: usize = 1 << 24;

#[derive(Debug)]
struct Chunk<T> {
    /// One bit for each slot, set while it is free.
    free: u64,
    slots: Box<[Option<(u32, T)>]>,
}

/// Numbered places for `T`, each tenant with a generation that no other tenant of the slab soon has again.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    /// Chunks with a free slot.
    open: Vec<usize>,
    len: usize,
    /// Given out so far; a slot alone could not remember its own when its chunk was freed.
    generation: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), len: 0, generation: 0 }
    }
}

impl<T> Slab<T> {
    /// Moves in what `build` makes of its own name; `None` if every slot is taken.
    pub fn insert(&mut self, build: impl FnOnce(ConnectionRef) -> T) -> Option<ConnectionRef> {
        let at = self.open_chunk()?;
        let chunk = self.chunks.get_mut(at)?.as_mut()?;
        let within = chunk.free.trailing_zeros() as usize;
        let slot = u32::try_from(at * CHUNK + within).ok()?;
        self.generation = self.generation.wrapping_add(1);
        let name = ConnectionRef::new(slot, self.generation);
        *chunk.slots.get_mut(within)? = Some((self.generation, build(name)));
        chunk.free &= !(1 << within);
        if chunk.free == 0 {
            // It is the one on top.
            self.open.pop();
        }
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
        let (at, within) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let place = self.chunks.get_mut(at)?;
        let chunk = place.as_mut()?;
        let (_, value) = chunk.slots.get_mut(within)?.take()?;
        if chunk.free == 0 {
            self.open.push(at);
        }
        chunk.free |= 1 << within;
        self.len -= 1;
        // The last chunk stays, so that a single client coming and going costs no allocation.
        if chunk.free == u64::MAX && self.len > 0 {
            *place = None;
            self.open.retain(|open| *open != at);
            while self.chunks.last().is_some_and(Option::is_none) {
                self.chunks.pop();
            }
            self.chunks.shrink_to(self.chunks.len() * 2);
            self.open.shrink_to(self.open.len() * 2);
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

    /// A chunk with a free slot, a new one if need be.
    fn open_chunk(&mut self) -> Option<usize> {
        if let Some(at) = self.open.last() {
            return Some(*at);
        }
        let at = self.chunks.iter().position(Option::is_none).unwrap_or(self.chunks.len());
        if (at + 1) * CHUNK > SLOTS_MAX {
            return None;
        }
        let chunk = Chunk { free: u64::MAX, slots: (0..CHUNK).map(|_| None).collect() };
        match self.chunks.get_mut(at) {
            Some(hole) => *hole = Some(chunk),
            None => self.chunks.push(Some(chunk)),
        }
        self.open.push(at);
        Some(at)
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
        assert_eq!(slab.open.len(), slab.chunks.iter().flatten().filter(|chunk| chunk.free != 0).count());
        assert!(again.iter().zip(0..).all(|(name, n)| slab.get(*name) == Some(&n)));
        assert!(names[10..].iter().all(|name| slab.get(*name).is_none()));
    }
}
