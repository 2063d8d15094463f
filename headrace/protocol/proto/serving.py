"""Facts of TensorFlow Serving's public protocol: requests, answers, logs and configuration files.

Same notation as tensorflow.py.
"""

from __future__ import annotations

# BatchingParameters and what follows it are only ever read as text: their names bind, their numbers
# cross no wire.

ENUMS: dict[str, dict[str, int]] = {
    "tensorflow.serving.ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2},
    "tensorflow.serving.ModelVersionStatus.State": {
        "UNKNOWN": 0,
        "START": 10,
        "LOADING": 20,
        "AVAILABLE": 30,
        "UNLOADING": 40,
        "END": 50,
    },
    "tensorflow.serving.PredictStreamedOptions.RequestState": {
        "NONE": 0,
        "SPLIT": 1,
        "END_SPLIT": 2,
        "CANCEL": 3,
    },
    "tensorflow.serving.PredictRequest.RequestOptions.DeterministicMode": {
        "DETERMINISTIC_MODE_UNSPECIFIED": 0,
        "FIXED_DECODER_SLOT": 1,
    },
    "tensorflow.serving.SamplingConfig.Attributes": {
        "ATTR_DEFAULT": 0,
        "ATTR_REQUEST_ORIGIN": 1,
        "ATTR_REQUEST_CRITICALITY": 2,
    },
}

_CALLS = """
ModelSpec
    name 1 string
    version 2 google.protobuf.Int64Value @version_choice
    signature_name 3 string
    version_label 4 string @version_choice
PredictRequest
    model_spec 1 ModelSpec
    inputs 2 map<string, TensorProto>
    output_filter 3 string*
    predict_streamed_options 5 PredictStreamedOptions
    client_id 6 bytes?
    request_options 7 PredictRequest.RequestOptions?
PredictRequest.RequestOptions
    client_id 1 bytes?
    deterministic_mode 2 PredictRequest.RequestOptions.DeterministicMode?
    return_additional_arrays_from_prefill 3 bool?
    return_stoptokens 4 int64*
    max_cache_length 6 int64?
    return_all_stoptokens 9 bool?
PredictStreamedOptions
    request_state 1 PredictStreamedOptions.RequestState
    split_dimensions 2 map<string, int32>
    return_single_response 3 bool
PredictResponse
    outputs 1 map<string, TensorProto>
    model_spec 2 ModelSpec
GetModelMetadataRequest
    model_spec 1 ModelSpec
    metadata_field 2 string*
GetModelMetadataResponse
    model_spec 1 ModelSpec
    metadata 2 map<string, google.protobuf.Any>
SignatureDefMap
    signature_def 1 map<string, SignatureDef>
GetModelStatusRequest
    model_spec 1 ModelSpec
GetModelStatusResponse
    model_version_status 1 ModelVersionStatus* json=model_version_status
ModelVersionStatus
    version 1 int64
    state 2 ModelVersionStatus.State
    status 3 StatusProto
StatusProto
    error_code 1 error.Code json=error_code
    error_message 2 string json=error_message
ReloadConfigRequest
    config 1 ModelServerConfig
    metric_names 2 string*
ReloadConfigResponse
    status 1 StatusProto
    metric 2 Metric*
Metric
    name 1 string
    int64_value_increase 2 int64 @value_increase
"""

_EXAMPLE_CALLS = """
Input
    example_list 1 ExampleList @kind
    example_list_with_context 2 ExampleListWithContext @kind
ExampleList
    examples 1 Example*
ExampleListWithContext
    examples 1 Example*
    context 2 Example
ClassificationRequest
    model_spec 1 ModelSpec
    input 2 Input
ClassificationResponse
    result 1 ClassificationResult
    model_spec 2 ModelSpec
ClassificationResult
    classifications 1 Classifications*
Classifications
    classes 1 Class*
Class
    label 1 string
    score 2 float
RegressionRequest
    model_spec 1 ModelSpec
    input 2 Input
RegressionResponse
    result 1 RegressionResult
    model_spec 2 ModelSpec
RegressionResult
    regressions 1 Regression*
Regression
    value 1 float
MultiInferenceRequest
    tasks 1 InferenceTask*
    input 2 Input
MultiInferenceResponse
    results 1 InferenceResult*
InferenceTask
    model_spec 1 ModelSpec
    method_name 2 string
InferenceResult
    model_spec 1 ModelSpec
    classification_result 2 ClassificationResult @result
    regression_result 3 RegressionResult @result
SessionRunRequest
    model_spec 1 ModelSpec
    feed 2 NamedTensorProto*
    fetch 3 string*
    target 4 string*
    options 5 RunOptions
    tensor_name_is_alias 6 bool
SessionRunResponse
    tensor 1 NamedTensorProto*
    model_spec 3 ModelSpec
"""

_LOGS = """
PredictionLog
    log_metadata 1 LogMetadata
    classify_log 2 ClassifyLog @log_type
    regress_log 3 RegressLog @log_type
    multi_inference_log 4 MultiInferenceLog @log_type
    session_run_log 5 SessionRunLog @log_type
    predict_log 6 PredictLog @log_type
    predict_streamed_log 7 PredictStreamedLog @log_type
LogMetadata
    model_spec 1 ModelSpec
    sampling_config 2 SamplingConfig
    saved_model_tags 3 string*
    timestamp_secs 4 int64
    dc 5 string
    request_origin 6 string
    request_criticality 7 string
    safe_aggregation_privacy_key 8 int64
ClassifyLog
    request 1 ClassificationRequest
    response 2 ClassificationResponse
RegressLog
    request 1 RegressionRequest
    response 2 RegressionResponse
PredictLog
    request 1 PredictRequest
    response 2 PredictResponse
PredictStreamedLog
    request 1 PredictRequest*
    response 2 PredictResponse*
MultiInferenceLog
    request 1 MultiInferenceRequest
    response 2 MultiInferenceResponse
SessionRunLog
    request 1 SessionRunRequest
    response 2 SessionRunResponse
"""

_CONFIGS = """
ModelServerConfig
    model_config_list 1 ModelConfigList @config
    custom_model_config 2 google.protobuf.Any @config
ModelConfigList
    config 1 ModelConfig*
ModelConfig
    name 1 string
    base_path 2 string
    model_type 3 ModelType
    model_platform 4 string
    logging_config 6 LoggingConfig
    model_version_policy 7 FileSystemStoragePathSourceConfig.ServableVersionPolicy
    version_labels 8 map<string, int64>
FileSystemStoragePathSourceConfig
    file_system_poll_wait_seconds 3 int64
    fail_if_zero_versions_at_startup 4 bool
    servables 5 FileSystemStoragePathSourceConfig.ServableToMonitor*
    servable_versions_always_present 6 bool
FileSystemStoragePathSourceConfig.ServableToMonitor
    servable_name 1 string
    base_path 2 string
    servable_version_policy 4 FileSystemStoragePathSourceConfig.ServableVersionPolicy
FileSystemStoragePathSourceConfig.ServableVersionPolicy
    latest 100 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest @policy_choice
    all 101 FileSystemStoragePathSourceConfig.ServableVersionPolicy.All @policy_choice
    specific 102 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific @policy_choice
FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest
    num_versions 1 uint32
FileSystemStoragePathSourceConfig.ServableVersionPolicy.All
FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific
    versions 1 int64*
LoggingConfig
    log_collector_config 1 LogCollectorConfig
    sampling_config 2 SamplingConfig
    custom_logging_config 3 google.protobuf.Any
LogCollectorConfig
    type 1 string
    filename_prefix 2 string
SamplingConfig
    sampling_rate 1 double
    attributes 2 int32
    per_task_sampling_configs 3 PerTaskSamplingConfig*
PerTaskSamplingConfig
    dc 1 string
    task_index 2 int32?
    sampling_rate 3 double
PlatformConfigMap
    platform_configs 1 map<string, PlatformConfig>
PlatformConfig
    source_adapter_config 1 google.protobuf.Any
BatchingParameters
    max_batch_size 1 google.protobuf.Int64Value
    batch_timeout_micros 2 google.protobuf.Int64Value
    max_enqueued_batches 3 google.protobuf.Int64Value
    num_batch_threads 4 google.protobuf.Int64Value
    thread_pool_name 5 google.protobuf.StringValue
    allowed_batch_sizes 6 int64*
    pad_variable_length_inputs 7 bool
    enable_large_batch_splitting 8 google.protobuf.BoolValue
    max_execution_batch_size 9 google.protobuf.Int64Value
MonitoringConfig
    prometheus_config 1 PrometheusConfig
PrometheusConfig
    enable 1 bool
    path 2 string
SSLConfig
    server_key 1 string
    server_cert 2 string
    custom_ca 3 string
    client_verify 4 bool
"""

MESSAGES = _CALLS + _EXAMPLE_CALLS + _LOGS + _CONFIGS
