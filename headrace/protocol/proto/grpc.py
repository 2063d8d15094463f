"""Facts of gRPC's own public services, health and reflection, and of TensorFlow's profiler service.

Same notation as tensorflow.py. SERVICES lists, for every service of the wire, its calls: name,
request, answer; `>` marks a stream.
"""

from __future__ import annotations

ENUMS: dict[str, dict[str, int]] = {
    "grpc.health.v1.HealthCheckResponse.ServingStatus": {
        "UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    },
}

HEALTH = """
HealthCheckRequest
    service 1 string
HealthCheckResponse
    status 1 HealthCheckResponse.ServingStatus
"""

REFLECTION = """
ServerReflectionRequest
    host 1 string
    file_by_filename 3 string @message_request
    file_containing_symbol 4 string @message_request
    file_containing_extension 5 ExtensionRequest @message_request
    all_extension_numbers_of_type 6 string @message_request
    list_services 7 string @message_request
ExtensionRequest
    containing_type 1 string
    extension_number 2 int32
ServerReflectionResponse
    valid_host 1 string
    original_request 2 ServerReflectionRequest
    file_descriptor_response 4 FileDescriptorResponse @message_response
    all_extension_numbers_response 5 ExtensionNumberResponse @message_response
    list_services_response 6 ListServiceResponse @message_response
    error_response 7 ErrorResponse @message_response
FileDescriptorResponse
    file_descriptor_proto 1 bytes*
ExtensionNumberResponse
    base_type_name 1 string
    extension_number 2 int32*
ListServiceResponse
    service 1 ServiceResponse*
ServiceResponse
    name 1 string
ErrorResponse
    error_code 1 int32
    error_message 2 string
"""

PROFILER = """
ProfileRequest
    duration_ms 1 uint64
    max_events 2 uint64
    tools 3 string*
    repository_root 5 string
    session_id 6 string
    host_name 7 string
ProfileResponse
    empty_trace 7 bool
TerminateRequest
    session_id 1 string
TerminateResponse
MonitorRequest
    duration_ms 1 uint64
    monitoring_level 2 int32
    timestamp 3 bool
MonitorResponse
    data 1 string
"""

SERVICES = """
tensorflow.serving.PredictionService
    Classify ClassificationRequest ClassificationResponse
    Regress RegressionRequest RegressionResponse
    Predict PredictRequest PredictResponse
    MultiInference MultiInferenceRequest MultiInferenceResponse
    GetModelMetadata GetModelMetadataRequest GetModelMetadataResponse
tensorflow.serving.ModelService
    GetModelStatus GetModelStatusRequest GetModelStatusResponse
    HandleReloadConfigRequest ReloadConfigRequest ReloadConfigResponse
tensorflow.ProfilerService
    Profile ProfileRequest ProfileResponse
    Terminate TerminateRequest TerminateResponse
    Monitor MonitorRequest MonitorResponse
grpc.health.v1.Health
    Check HealthCheckRequest HealthCheckResponse
    Watch HealthCheckRequest >HealthCheckResponse
grpc.reflection.v1.ServerReflection
    ServerReflectionInfo >ServerReflectionRequest >ServerReflectionResponse
grpc.reflection.v1alpha.ServerReflection
    ServerReflectionInfo >ServerReflectionRequest >ServerReflectionResponse
"""
