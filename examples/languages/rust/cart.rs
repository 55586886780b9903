//! A shop that adds up a cart in a thread of its own; built with `panic=abort`.
//! The bug: not everything that is in the cart has a price.
use std::collections::HashMap;
use std::thread;

mod shop {
    use super::HashMap;

    pub struct Till {
        prices: HashMap<&'static str, u64>,
    }

    impl Till {
        pub fn new() -> Self {
            Till { prices: HashMap::from([("apple", 30), ("pear", 40)]) }
        }

        #[inline(never)]
        fn price(&self, name: &str) -> u64 {
            *self.prices.get(name).expect("everything in the cart has a price")
        }

        pub fn total(&self, cart: &[&str]) -> u64 {
            cart.iter().map(|name| self.price(name)).sum()
        }
    }
}

fn main() {
    let till = thread::Builder::new().name("till".into());
    let adding = till.spawn(|| println!("{}", shop::Till::new().total(&["apple", "plum"])));
    adding.unwrap().join().unwrap();
}
