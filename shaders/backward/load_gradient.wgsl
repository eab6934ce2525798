// uses: data/vector, iterate/traversal, tensors/dy, tensors/x, epilogue/residual

// A load of every tensor that the backward pass reads.
struct Gradients {
    place: Place,
    dy: Vector,
    x: Vector,
    z: Vector,
}

fn load_gradient(place: Place) -> Gradients {
    return Gradients(place, load_dy(place.element), load_x(place.element), load_z(place.element));
}
