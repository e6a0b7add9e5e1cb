//! The exact image of a machine, so that another one can go on where it is (SPEC 42.5).
//!
//! Each type that is part of a machine's state has a line `image!` behind it, which names all of its fields: one that is forgotten does not
//! compile. A machine that was made of an image does what the first one would have done, to the byte. So an image has what decides, such as
//! the memory that buffers have, which is accounted for, and the order within heaps. It does not have what only costs time, such as the
//! memory of tables.

/// Makes an [`Image`] of a type: of each field in the order in which they stand here, behind the number of the variant.
#[cfg(feature = "record")]
macro_rules! image {
    (enum $name:ty { $($(#[$meta:meta])* $tag:literal $variant:ident { $($member:tt: $field:ident),* }),* $(,)? }) => {
        impl $crate::image::Image for $name {
            fn put(&self, out: &mut $crate::image::Out) {
                match self {
                    $($(#[$meta])* Self::$variant { $($member: $field),* } => {
                        <u8 as $crate::image::Image>::put(&$tag, out);
                        $($crate::image::Image::put($field, out);)*
                    })*
                }
            }

            fn take(from: &mut $crate::image::Taken<'_>) -> Option<Self> {
                Some(match <u8 as $crate::image::Image>::take(from)? {
                    $($(#[$meta])* $tag => Self::$variant { $($member: $crate::image::Image::take(from)?),* },)*
                    _ => return None,
                })
            }
        }
    };
    (for [$($generics:tt)*] $name:ty { $($(#[$meta:meta])* $member:ident),* $(,)? }) => {
        impl<$($generics)*> $crate::image::Image for $name {
            fn put(&self, out: &mut $crate::image::Out) {
                $($(#[$meta])* $crate::image::Image::put(&self.$member, out);)*
            }

            fn take(from: &mut $crate::image::Taken<'_>) -> Option<Self> {
                Some(Self { $($(#[$meta])* $member: $crate::image::Image::take(from)?),* })
            }
        }
    };
    (for [$($generics:tt)*] $name:ty { $($member:tt),* $(,)? }) => {
        impl<$($generics)*> $crate::image::Image for $name {
            fn put(&self, out: &mut $crate::image::Out) {
                $($crate::image::Image::put(&self.$member, out);)*
            }

            fn take(from: &mut $crate::image::Taken<'_>) -> Option<Self> {
                Some(Self { $($member: $crate::image::Image::take(from)?),* })
            }
        }
    };
    ($name:ty {}) => {
        impl $crate::image::Image for $name {
            fn put(&self, _: &mut $crate::image::Out) {}

            fn take(_: &mut $crate::image::Taken<'_>) -> Option<Self> {
                Some(Self {})
            }
        }
    };
    ($name:ty { $($fields:tt)* }) => {
        image!(for [] $name { $($fields)* });
    };
}
#[cfg(not(feature = "record"))]
macro_rules! image {
    ($($type:tt)*) => {};
}

#[cfg(feature = "record")]
pub(crate) use made::{Image, Out, Taken};

#[cfg(feature = "record")]
mod made {
    use core::any::Any;
    use core::cmp::Reverse;
    use core::marker::PhantomData;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use core::num::NonZeroU16;
    use core::ops::Range;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use core::time::Duration;
    use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
    use std::sync::Arc;

    use ipnet::IpNet;
    use zeroize::{Zeroize, Zeroizing};

    /// The memory of one buffer that an image may ask for.
    const MAX_BUFFER_BYTES: usize = 1 << 30;

    /// Where an image goes. It is wiped when it is dropped, and has at most as many bytes as it was made for.
    pub(crate) struct Out {
        bytes: Zeroizing<Vec<u8>>,
        most: usize,
        is_over: bool,
        /// What several parts have together and is written, by its address.
        known: BTreeMap<usize, usize>,
    }

    impl Out {
        pub(crate) fn new(most: usize) -> Self {
            Out {
                bytes: Zeroizing::new(Vec::new()),
                most,
                is_over: false,
                known: BTreeMap::new(),
            }
        }

        /// Returns the image, if it was not too long.
        pub(crate) fn finish(self) -> Option<Zeroizing<Vec<u8>>> {
            (!self.is_over).then_some(self.bytes)
        }

        pub(crate) fn add(&mut self, bytes: &[u8]) {
            let length = self.bytes.len() + bytes.len();
            if self.is_over || length > self.most {
                self.is_over = true;
                return;
            }
            if length > self.bytes.capacity() {
                // What it grows out of has secrets.
                let mut larger = Vec::with_capacity((2 * length).max(4096));
                larger.extend_from_slice(&self.bytes);
                self.bytes.zeroize();
                *self.bytes = larger;
            }
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// What is left of an image that is read.
    pub(crate) struct Taken<'a> {
        rest: &'a [u8],
        /// What several parts have together, in the order in which it began. One that is not whole yet is none.
        known: Vec<Option<Arc<dyn Any + Send + Sync>>>,
    }

    impl<'a> Taken<'a> {
        pub(crate) fn new(image: &'a [u8]) -> Self {
            Taken {
                rest: image,
                known: Vec::new(),
            }
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.rest.is_empty()
        }

        fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
            let (bytes, rest) = self.rest.split_at_checked(length)?;
            self.rest = rest;
            Some(bytes)
        }
    }

    /// A part of a machine's state.
    pub(crate) trait Image: Sized {
        /// Whether the memory of a buffer of these decides something.
        const IS_ACCOUNTED: bool = false;

        /// Appends all of it.
        fn put(&self, out: &mut Out);

        /// Makes it again. `None`: no machine has written this.
        fn take(from: &mut Taken<'_>) -> Option<Self>;

        /// Appends several, without their number.
        fn put_all(all: &[Self], out: &mut Out) {
            for each in all {
                each.put(out);
            }
        }

        /// Makes several again, behind those that are in `all`.
        fn take_all(count: usize, all: &mut Vec<Self>, from: &mut Taken<'_>) -> Option<()> {
            for _ in 0..count {
                all.push(Self::take(from)?);
            }
            Some(())
        }
    }

    impl Image for u8 {
        const IS_ACCOUNTED: bool = true;

        fn put(&self, out: &mut Out) {
            out.add(&[*self]);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            from.bytes(1)?.first().copied()
        }

        fn put_all(all: &[Self], out: &mut Out) {
            out.add(all);
        }

        fn take_all(count: usize, all: &mut Vec<Self>, from: &mut Taken<'_>) -> Option<()> {
            all.extend_from_slice(from.bytes(count)?);
            Some(())
        }
    }

    macro_rules! numbers {
        ($($number:ty),*) => {$(
            impl Image for $number {
                fn put(&self, out: &mut Out) {
                    out.add(&self.to_le_bytes());
                }

                fn take(from: &mut Taken<'_>) -> Option<Self> {
                    let bytes = from.bytes(size_of::<$number>())?;
                    Some(<$number>::from_le_bytes(bytes.try_into().ok()?))
                }
            }
        )*};
    }
    numbers!(u16, u32, u64, u128, usize);

    /// Types that are made of another one, and made again of it.
    macro_rules! as_other {
        ($($name:ty: $other:ty, $put:expr, $take:expr;)*) => {$(
            impl Image for $name {
                fn put(&self, out: &mut Out) {
                    let put: fn(&$name) -> $other = $put;
                    put(self).put(out);
                }

                fn take(from: &mut Taken<'_>) -> Option<Self> {
                    let take: fn($other) -> Option<$name> = $take;
                    take(<$other as Image>::take(from)?)
                }
            }
        )*};
    }
    as_other! {
        bool: u8, |flag| (*flag).into(), |byte| (byte < 2).then_some(byte == 1);
        Duration: u128, Duration::as_nanos, |nanos| Some(Duration::from_nanos_u128(nanos));
        NonZeroU16: u16, |number| number.get(), NonZeroU16::new;
        Ipv4Addr: [u8; 4], |address| address.octets(), |octets| Some(octets.into());
        Ipv6Addr: [u8; 16], |address| address.octets(), |octets| Some(octets.into());
        SocketAddr: (IpAddr, u16, u32, u32),
            |address| match address {
                SocketAddr::V4(address) => ((*address.ip()).into(), address.port(), 0, 0),
                SocketAddr::V6(address) => (
                    (*address.ip()).into(), address.port(), address.flowinfo(), address.scope_id(),
                ),
            },
            |(ip, port, flow, scope)| {
                let mut address = SocketAddr::new(ip, port);
                if let SocketAddr::V6(address) = &mut address {
                    address.set_flowinfo(flow);
                    address.set_scope_id(scope);
                }
                Some(address)
            };
        IpNet: (IpAddr, u8),
            |network| (network.addr(), network.prefix_len()),
            |(address, length)| IpNet::new(address, length).ok();
        String: Vec<u8>, |text| text.clone().into_bytes(), |bytes| String::from_utf8(bytes).ok();
        Box<str>: Vec<u8>,
            |text| text.as_bytes().to_vec(),
            |bytes| String::from_utf8(bytes).ok().map(String::into_boxed_str);
    }
    image!(enum IpAddr { 0 V4 { 0: address }, 1 V6 { 0: address } });
    image!(for [T: Image] Reverse<T> { 0 });
    image!(for [T: Image] Range<T> { start, end });

    impl<T: Image> Image for Option<T> {
        fn put(&self, out: &mut Out) {
            self.is_some().put(out);
            if let Some(some) = self {
                some.put(out);
            }
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            match bool::take(from)? {
                true => T::take(from).map(Some),
                false => Some(None),
            }
        }
    }

    impl<T: Image, E: Image> Image for Result<T, E> {
        fn put(&self, out: &mut Out) {
            self.is_ok().put(out);
            match self {
                Ok(value) => value.put(out),
                Err(error) => error.put(out),
            }
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            match bool::take(from)? {
                true => T::take(from).map(Ok),
                false => E::take(from).map(Err),
            }
        }
    }

    impl<T: Image> Image for Box<T> {
        fn put(&self, out: &mut Out) {
            (**self).put(out);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            T::take(from).map(Box::new)
        }
    }

    /// It is written once, and several parts have it together again.
    impl<T: Image + Send + Sync + 'static> Image for Arc<T> {
        fn put(&self, out: &mut Out) {
            let count = out.known.len();
            let address = Arc::as_ptr(self).addr();
            let number = *out.known.entry(address).or_insert(count);
            number.put(out);
            if number == count {
                (**self).put(out);
            }
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            let number = usize::take(from)?;
            if number != from.known.len() {
                let known = from.known.get(number)?.clone()?;
                return known.downcast().ok();
            }
            from.known.push(None);
            let taken = Arc::new(T::take(from)?);
            *from.known.get_mut(number)? = Some(Arc::<T>::clone(&taken));
            Some(taken)
        }
    }

    impl Image for AtomicUsize {
        fn put(&self, out: &mut Out) {
            self.load(Ordering::Relaxed).put(out);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            usize::take(from).map(AtomicUsize::new)
        }
    }

    impl<T: Image + Zeroize> Image for Zeroizing<T> {
        fn put(&self, out: &mut Out) {
            (**self).put(out);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            T::take(from).map(Zeroizing::new)
        }
    }

    impl<T: ?Sized> Image for PhantomData<T> {
        fn put(&self, _: &mut Out) {}

        fn take(_: &mut Taken<'_>) -> Option<Self> {
            Some(PhantomData)
        }
    }

    impl<T: Image> Image for Vec<T> {
        fn put(&self, out: &mut Out) {
            if T::IS_ACCOUNTED {
                self.capacity().put(out);
            }
            self.len().put(out);
            T::put_all(self, out);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            let capacity = match T::IS_ACCOUNTED {
                true => usize::take(from)?,
                false => 0,
            };
            let mut all = match capacity <= MAX_BUFFER_BYTES {
                true => Vec::with_capacity(capacity),
                false => return None,
            };
            let count = usize::take(from)?;
            T::take_all(count, &mut all, from)?;
            Some(all)
        }
    }

    /// Collections that are made again of what was in them, in its order.
    macro_rules! collections {
        ($([$($generics:tt)*] $name:ty;)*) => {$(
            impl<$($generics)*> Image for $name {
                fn put(&self, out: &mut Out) {
                    self.len().put(out);
                    for each in self.iter() {
                        each.put(out);
                    }
                }

                fn take(from: &mut Taken<'_>) -> Option<Self> {
                    let count = usize::take(from)?;
                    (0..count).map(|_| Image::take(from)).collect()
                }
            }
        )*};
    }
    collections! {
        [T: Image] VecDeque<T>;
        [T: Image + Ord] BTreeSet<T>;
        [T: Image + Ord] BinaryHeap<T>;
        [T: Image] Box<[T]>;
        [T: Image] Arc<[T]>;
    }

    impl<K: Image + Ord, V: Image> Image for BTreeMap<K, V> {
        fn put(&self, out: &mut Out) {
            self.len().put(out);
            for (key, value) in self {
                key.put(out);
                value.put(out);
            }
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            let count = usize::take(from)?;
            (0..count).map(|_| Image::take(from)).collect()
        }
    }

    impl<T: Image, const N: usize> Image for [T; N] {
        fn put(&self, out: &mut Out) {
            T::put_all(self, out);
        }

        fn take(from: &mut Taken<'_>) -> Option<Self> {
            let mut all = Vec::with_capacity(N);
            T::take_all(N, &mut all, from)?;
            all.try_into().ok()
        }
    }

    macro_rules! tuples {
        ($(($($name:ident $member:tt),*))*) => {$(
            impl<$($name: Image),*> Image for ($($name,)*) {
                fn put(&self, out: &mut Out) {
                    $(self.$member.put(out);)*
                }

                fn take(from: &mut Taken<'_>) -> Option<Self> {
                    Some(($($name::take(from)?,)*))
                }
            }
        )*};
    }
    tuples! { (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn again<T: Image>(value: &T) -> Option<T> {
            let mut out = Out::new(1 << 20);
            value.put(&mut out);
            let image = out.finish().expect("short");
            // Each part of it is missed.
            for cut in 0..image.len() {
                let cut = image.get(..cut).unwrap_or_default();
                assert!(T::take(&mut Taken::new(cut)).is_none());
            }
            let mut from = Taken::new(&image);
            let value = T::take(&mut from);
            assert!(from.is_empty());
            value
        }

        #[test]
        fn what_is_made_again_is_the_same() {
            let mut buffer = Vec::with_capacity(100);
            buffer.extend_from_slice(b"some");
            let made = again(&buffer).expect("good");
            assert_eq!((made.capacity(), &made), (100, &buffer));
            let heap = BinaryHeap::from([3_u32, 9, 4, 7, 1]);
            assert_eq!(again(&heap).expect("good").into_vec(), heap.into_vec());
            let map = BTreeMap::from([(1_u8, Some(true)), (2, None)]);
            assert_eq!(again(&map), Some(map));
            let address: SocketAddr = "[fe80::1%3]:4".parse().expect("an address");
            assert_eq!(again(&address), Some(address));
            let network: IpNet = "10.0.0.0/8".parse().expect("a network");
            assert_eq!(again(&network), Some(network));
            let mixed = (Duration::from_nanos(7), Err::<u16, _>("text".to_owned()));
            assert_eq!(again(&mixed), Some(mixed));
        }

        #[test]
        fn an_image_that_is_too_long_is_none() {
            let put = |most| {
                let mut out = Out::new(most);
                [1_u64, 2].put(&mut out);
                out.finish().map(|image| image.len())
            };
            assert_eq!((put(16), put(15)), (Some(16), None));
        }

        #[test]
        fn what_no_machine_writes_is_refused() {
            let is_refused =
                |image: &[u8]| <Option<u8> as Image>::take(&mut Taken::new(image)).is_none();
            assert!(is_refused(&[2, 0]) && !is_refused(&[1, 0]) && is_refused(&[]));
            let beyond = [&(1_usize << 31).to_le_bytes()[..], &[0; 8]].concat();
            assert!(Vec::<u8>::take(&mut Taken::new(&beyond)).is_none());
        }
    }
}
