//! Schema resolution from a writer's schema to orders.
//!
//! Resolution follows the [specification](https://avro.apache.org/docs/1.12.0/specification/#schema-resolution): it matches
//! fields by name, promotes int and long to float and bytes to string, and reads a union as the type that was written.
//! Unlike the specification, it does not read the bytes of a decimal as text.

use crate::{
    DecodeError, Order,
    datum::{Datum, mismatch},
    shape::{Role, Shape, Shapes, Span},
};

/// Checks that a datum of the schema can be an order.
///
/// # Errors
/// The reason why none can.
pub(crate) fn check(shapes: &Shapes) -> Result<(), String> {
    let Shape::Union(types) = shapes.root else { return check_record(shapes, shapes.root) };
    let mut in_the_way = None;
    for member in shapes.members(types) {
        match check_record(shapes, member.shape) {
            Ok(()) => return Ok(()),
            Err(reason) if matches!(member.shape, Shape::Record(_)) => in_the_way = Some(reason),
            Err(_) => {}
        }
    }
    Err(in_the_way.unwrap_or_else(|| "the writer's schema is a union without a record".into()))
}

/// Returns whether the fields are those of our schema, in the same sequence.
pub(crate) fn is_our_own(shapes: &Shapes) -> bool {
    let Shape::Record(fields) = shapes.root else { return false };
    let fields = shapes.members(fields).iter().map(|field| (field.role, field.shape));
    matches!(
        fields.collect::<Vec<_>>()[..],
        [
            (Role::OrderId, Shape::String),
            (Role::Product, Shape::String),
            (Role::Price, Shape::Float)
        ]
    )
}

/// Reads an order whose fields are those of our schema, in the same sequence.
#[inline]
pub(crate) fn read_own(datum: &mut Datum<'_>) -> Result<Order, DecodeError> {
    let order_id = text(Role::OrderId, datum)?;
    let product = text(Role::Product, datum)?;
    Ok(Order { order_id, product, price: datum.float()? })
}

/// Reads an order by the shapes of its writer's schema, which [`check`] has accepted.
pub(crate) fn read(shapes: &Shapes, datum: &mut Datum<'_>) -> Result<Order, DecodeError> {
    let shape = shapes.written(shapes.root, datum)?;
    let Shape::Record(fields) = shape else {
        return Err(mismatch(format!("the value is {shape}, not a record")));
    };
    if matches!(shapes.root, Shape::Union(_)) {
        check_fields(shapes, fields).map_err(mismatch)?;
    }
    let mut order = Order { order_id: String::new(), product: String::new(), price: 0.0 };
    for field in shapes.members(fields) {
        match field.role {
            Role::OrderId => order.order_id = read_text(shapes, field.role, field.shape, datum)?,
            Role::Product => order.product = read_text(shapes, field.role, field.shape, datum)?,
            Role::Price => order.price = read_price(shapes, field.shape, datum)?,
            Role::Other => shapes.skip(field.shape, datum)?,
        }
    }
    Ok(order)
}

fn check_record(shapes: &Shapes, shape: Shape) -> Result<(), String> {
    if let Shape::Record(fields) = shape {
        check_fields(shapes, fields)
    } else {
        Err(format!("the writer's schema is {shape}, not a record"))
    }
}

fn check_fields(shapes: &Shapes, fields: Span) -> Result<(), String> {
    for role in [Role::OrderId, Role::Product, Role::Price] {
        let name = role.field();
        let mut found = shapes.members(fields).iter().filter(|field| field.role == role);
        let Some(field) = found.next() else {
            return Err(format!("the record has no field {name}"));
        };
        if found.next().is_some() {
            return Err(format!("the record has two fields {name}"));
        }
        let shape = field.shape;
        if let Shape::Union(types) = shape {
            if !shapes.members(types).iter().any(|one| role.takes(one.shape)) {
                let becomes = role.becomes();
                return Err(format!("{name} is a union, and none of its types becomes {becomes}"));
            }
        } else if !role.takes(shape) {
            return Err(unfit(role, shape));
        }
    }
    Ok(())
}

fn read_text(
    shapes: &Shapes,
    role: Role,
    shape: Shape,
    datum: &mut Datum<'_>,
) -> Result<String, DecodeError> {
    let shape = shapes.written(shape, datum)?;
    if role.takes(shape) { text(role, datum) } else { Err(mismatch(unfit(role, shape))) }
}

#[inline]
fn text(role: Role, datum: &mut Datum<'_>) -> Result<String, DecodeError> {
    match str::from_utf8(datum.bytes()?) {
        Ok(text) => Ok(text.to_owned()),
        Err(_not_utf8) => Err(mismatch(format!("{} is not UTF-8", role.field()))),
    }
}

fn read_price(shapes: &Shapes, shape: Shape, datum: &mut Datum<'_>) -> Result<f32, DecodeError> {
    let shape = shapes.written(shape, datum)?;
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "Avro promotes int and long to float, to the nearest one"
    )]
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other type becomes a float")]
    match shape {
        Shape::Float => datum.float(),
        Shape::Int => Ok(datum.int()? as f32),
        Shape::Long => Ok(datum.long()? as f32),
        shape => Err(mismatch(unfit(Role::Price, shape))),
    }
}

fn unfit(role: Role, shape: Shape) -> String {
    format!("{} is {shape}, which does not become {}", role.field(), role.becomes())
}

impl Role {
    fn field(self) -> &'static str {
        match self {
            Self::OrderId => "orderId",
            Self::Product => "product",
            Self::Price => "price",
            Self::Other => "",
        }
    }

    fn becomes(self) -> &'static str {
        if self == Self::Price { "a float" } else { "a string" }
    }

    /// Returns whether the field can have a value of that shape.
    fn takes(self, shape: Shape) -> bool {
        match self {
            Self::OrderId | Self::Product => matches!(shape, Shape::String | Shape::Bytes),
            Self::Price => matches!(shape, Shape::Float | Shape::Int | Shape::Long),
            Self::Other => true,
        }
    }
}
