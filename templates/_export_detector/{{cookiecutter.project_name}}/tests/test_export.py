# % set exported = '"weights.safetensors", "model.onnx"'
# % set sharpened = "roi_heads.box_predictor.cls_score.weight"
# % include "export/test.py"
