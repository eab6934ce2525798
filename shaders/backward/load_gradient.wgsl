// uses: data/vector, iterate/traversal, tensors/dy, tensors/x, epilogue/residual

// A load of every tensor that the backward pass reads.
struct Gradients {
    place: Place,
    dy: Vector,
    x: Vector,
    residual: Vector,
}

fn load_gradient(place: Place) -> Gradients {
    let dy = load_dy(place.element, place.is_second);
    let x = load_x(place.element, place.is_second);
    return Gradients(place, dy, x, load_residual(place.element, place.is_second));
}
