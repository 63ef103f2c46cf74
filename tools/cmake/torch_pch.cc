// Only there to carry the precompiled header of libtorch: see Torch.cmake.
