def test_outputs_that_differ_from_the_models_are_an_error():
    with pytest.raises(ValueError, match="The outputs of `model.onnx` differ from the model's by up to 1"):
        export.check("model.onnx", [torch.zeros(3)], torch.ones(3), tolerance=1e-4)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        export.check("model.onnx", [torch.ones(2)], torch.ones(3), tolerance=1e-4)
