//! The products.

/// The products, all drawn equally often.
pub(crate) const PRODUCTS: [&str; 24] = [
    "Adjustable Standing Desk",
    "Bamboo Cutting Board",
    "Bluetooth Speaker",
    "Cast Iron Skillet",
    "Ceramic Pour-Over Set",
    "Cordless Drill",
    "Electric Kettle",
    "Ergonomic Office Chair",
    "Fitness Tracker",
    "Hiking Backpack",
    "LED Desk Lamp",
    "Linen Duvet Cover",
    "Mechanical Keyboard",
    "Merino Wool Sweater",
    "Noise-Cancelling Headphones",
    "Portable Projector",
    "Robot Vacuum",
    "Running Shoes",
    "Smart Thermostat",
    "Stainless Steel Water Bottle",
    "Trekking Poles",
    "USB-C Docking Station",
    "Wireless Mouse",
    "Yoga Mat",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_product_is_listed_twice() {
        let names = BTreeSet::from(PRODUCTS);

        assert_eq!(names.len(), PRODUCTS.len());
    }
}
