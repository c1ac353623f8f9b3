# The service for exported models, without TensorFlow:
#
#   python export_model.py --output_dir=DIR --format=onnx --export_dir=models/reviews
#   docker build -t bert-serving .
#   docker run -p 8501:8501 -v "$PWD/models:/models:ro" -v "$PWD/keys.txt:/run/keys.txt:ro" \
#     bert-serving --model=reviews=/models/reviews --host=0.0.0.0 --api_key_file=/run/keys.txt

FROM python:3.11-slim

RUN useradd --create-home --uid 10001 bert
WORKDIR /opt/bert
COPY requirements-serving.txt LICENSE ./
RUN pip install --no-cache-dir -r requirements-serving.txt
COPY serve.py tokenization.py ./
COPY toolkit toolkit
RUN python -m compileall -q .

USER bert
EXPOSE 8501
HEALTHCHECK --start-period=10s --interval=10s --timeout=5s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "serve.py"]
