"""Facts of TensorFlow's public protocol: tensors, graphs, SavedModels, examples, session options.

One line a field: name, number, type. `*` repeated, `?` optional with presence, `map<K, V>`,
`@group` member of a oneof, `json=` where the JSON name is not the usual camel case. What a message
holds beyond these fields (debug information, full types, object graphs) stays in it as unknown
bytes and is written back unchanged.
"""

from __future__ import annotations

_VALUE_TYPES = (
    "INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 "
    "BFLOAT16 QINT16 "
    "QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64 FLOAT8_E5M2 FLOAT8_E4M3FN "
    "FLOAT8_E4M3FNUZ "
    "FLOAT8_E4M3B11FNUZ FLOAT8_E5M2FNUZ INT4 UINT4 INT2 UINT2"
).split()

ENUMS: dict[str, dict[str, int]] = {
    "tensorflow.DataType": {f"DT_{name}": number for number, name in enumerate(_VALUE_TYPES)}
    | {f"DT_{name}_REF": number + 100 for number, name in enumerate(_VALUE_TYPES) if number},
    "tensorflow.SaverDef.CheckpointFormatVersion": {"LEGACY": 0, "V1": 1, "V2": 2},
    "tensorflow.OptimizerOptions.Level": {"L1": 0, "L0": -1},
    "tensorflow.OptimizerOptions.GlobalJitLevel": {"DEFAULT": 0, "OFF": -1, "ON_1": 1, "ON_2": 2},
    "tensorflow.RewriterConfig.Toggle": {
        "DEFAULT": 0,
        "ON": 1,
        "OFF": 2,
        "AGGRESSIVE": 3,
        "EXPERIMENTAL_MLIR": 4,
        "EXPERIMENTAL_BOTH": 5,
    },
    "tensorflow.RewriterConfig.CpuLayout": {
        "NO_CONVERSION_ON_CPU": 0,
        "NCHW_TO_NHWC": 1,
        "NHWC_TO_NCHW": 2,
    },
    "tensorflow.RewriterConfig.NumIterationsType": {"DEFAULT_NUM_ITERS": 0, "ONE": 1, "TWO": 2},
    "tensorflow.RewriterConfig.MemOptType": {
        "DEFAULT_MEM_OPT": 0,
        "NO_MEM_OPT": 1,
        "MANUAL": 2,
        "SWAPPING_HEURISTICS": 4,
        "RECOMPUTATION_HEURISTICS": 5,
        "SCHEDULING_HEURISTICS": 6,
        "HEURISTICS": 3,
    },
    "tensorflow.ConfigProto.Experimental.MlirBridgeRollout": {
        "MLIR_BRIDGE_ROLLOUT_UNSPECIFIED": 0,
        "MLIR_BRIDGE_ROLLOUT_ENABLED": 1,
        "MLIR_BRIDGE_ROLLOUT_DISABLED": 2,
    },
    "tensorflow.BundleHeaderProto.Endianness": {"LITTLE": 0, "BIG": 1},
    "tensorflow.error.Code": {
        "OK": 0,
        "CANCELLED": 1,
        "UNKNOWN": 2,
        "INVALID_ARGUMENT": 3,
        "DEADLINE_EXCEEDED": 4,
        "NOT_FOUND": 5,
        "ALREADY_EXISTS": 6,
        "PERMISSION_DENIED": 7,
        "RESOURCE_EXHAUSTED": 8,
        "FAILED_PRECONDITION": 9,
        "ABORTED": 10,
        "OUT_OF_RANGE": 11,
        "UNIMPLEMENTED": 12,
        "INTERNAL": 13,
        "UNAVAILABLE": 14,
        "DATA_LOSS": 15,
        "UNAUTHENTICATED": 16,
        "DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_": 20,
    },
}

_TENSORS = """
TensorShapeProto
    dim 2 TensorShapeProto.Dim*
    unknown_rank 3 bool
TensorShapeProto.Dim
    size 1 int64
    name 2 string
TensorProto
    dtype 1 DataType
    tensor_shape 2 TensorShapeProto
    version_number 3 int32
    tensor_content 4 bytes
    float_val 5 float*
    double_val 6 double*
    int_val 7 int32*
    string_val 8 bytes*
    scomplex_val 9 float*
    int64_val 10 int64*
    bool_val 11 bool*
    dcomplex_val 12 double*
    half_val 13 int32*
    resource_handle_val 14 ResourceHandleProto*
    variant_val 15 VariantTensorDataProto*
    uint32_val 16 uint32*
    uint64_val 17 uint64*
    float8_val 18 bytes
VariantTensorDataProto
    type_name 1 string
    metadata 2 bytes
    tensors 3 TensorProto*
ResourceHandleProto
    device 1 string
    container 2 string
    name 3 string
    hash_code 4 uint64
    maybe_type_name 5 string
    dtypes_and_shapes 6 ResourceHandleProto.DtypeAndShape*
ResourceHandleProto.DtypeAndShape
    dtype 1 DataType
    shape 2 TensorShapeProto
NamedTensorProto
    name 1 string
    tensor 2 TensorProto
VersionDef
    producer 1 int32
    min_consumer 2 int32
    bad_consumers 3 int32*
"""

_GRAPHS = """
AttrValue
    list 1 AttrValue.ListValue @value
    s 2 bytes @value
    i 3 int64 @value
    f 4 float @value
    b 5 bool @value
    type 6 DataType @value
    shape 7 TensorShapeProto @value
    tensor 8 TensorProto @value
    placeholder 9 string @value
    func 10 NameAttrList @value
AttrValue.ListValue
    s 2 bytes*
    i 3 int64*
    f 4 float*
    b 5 bool*
    type 6 DataType*
    shape 7 TensorShapeProto*
    tensor 8 TensorProto*
    func 9 NameAttrList*
NameAttrList
    name 1 string
    attr 2 map<string, AttrValue>
NodeDef
    name 1 string
    op 2 string
    input 3 string*
    device 4 string
    attr 5 map<string, AttrValue>
GraphDef
    node 1 NodeDef*
    library 2 FunctionDefLibrary
    version 3 int32
    versions 4 VersionDef
FunctionDefLibrary
    function 1 FunctionDef*
    gradient 2 GradientDef*
    registered_gradients 3 RegisteredGradient*
FunctionDef
    signature 1 OpDef
    node_def 3 NodeDef*
    ret 4 map<string, string>
    attr 5 map<string, AttrValue>
    control_ret 6 map<string, string>
    arg_attr 7 map<uint32, FunctionDef.ArgAttrs>
    resource_arg_unique_id 8 map<uint32, uint32>
FunctionDef.ArgAttrs
    attr 1 map<string, AttrValue>
GradientDef
    function_name 1 string
    gradient_func 2 string
RegisteredGradient
    gradient_func 1 string
    registered_op_type 2 string
OpDef
    name 1 string
    input_arg 2 OpDef.ArgDef*
    output_arg 3 OpDef.ArgDef*
    attr 4 OpDef.AttrDef*
    summary 5 string
    description 6 string
    deprecation 8 OpDeprecation
    is_aggregate 16 bool
    is_stateful 17 bool
    is_commutative 18 bool
    allows_uninitialized_input 19 bool
    control_output 20 string*
    is_distributed_communication 21 bool
OpDef.ArgDef
    name 1 string
    description 2 string
    type 3 DataType
    type_attr 4 string
    number_attr 5 string
    type_list_attr 6 string
    handle_data 7 ResourceHandleProto.DtypeAndShape*
    is_ref 16 bool
OpDef.AttrDef
    name 1 string
    type 2 string
    default_value 3 AttrValue
    description 4 string
    has_minimum 5 bool
    minimum 6 int64
    allowed_values 7 AttrValue
OpDeprecation
    version 1 int32
    explanation 2 string
OpList
    op 1 OpDef*
"""

_SAVED_MODELS = """
SavedModel
    saved_model_schema_version 1 int64
    meta_graphs 2 MetaGraphDef*
MetaGraphDef
    meta_info_def 1 MetaGraphDef.MetaInfoDef
    graph_def 2 GraphDef
    saver_def 3 SaverDef
    collection_def 4 map<string, CollectionDef>
    signature_def 5 map<string, SignatureDef>
    asset_file_def 6 AssetFileDef*
MetaGraphDef.MetaInfoDef
    meta_graph_version 1 string
    stripped_op_list 2 OpList
    any_info 3 google.protobuf.Any
    tags 4 string*
    tensorflow_version 5 string
    tensorflow_git_version 6 string
    stripped_default_attrs 7 bool
    function_aliases 8 map<string, string>
SaverDef
    filename_tensor_name 1 string
    save_tensor_name 2 string
    restore_op_name 3 string
    max_to_keep 4 int32
    sharded 5 bool
    keep_checkpoint_every_n_hours 6 float
    version 7 SaverDef.CheckpointFormatVersion
CollectionDef
    node_list 1 CollectionDef.NodeList @kind
    bytes_list 2 CollectionDef.BytesList @kind
    int64_list 3 CollectionDef.Int64List @kind
    float_list 4 CollectionDef.FloatList @kind
    any_list 5 CollectionDef.AnyList @kind
CollectionDef.NodeList
    value 1 string*
CollectionDef.BytesList
    value 1 bytes*
CollectionDef.Int64List
    value 1 int64*
CollectionDef.FloatList
    value 1 float*
CollectionDef.AnyList
    value 1 google.protobuf.Any*
SignatureDef
    inputs 1 map<string, TensorInfo>
    outputs 2 map<string, TensorInfo>
    method_name 3 string
    defaults 4 map<string, TensorProto>
TensorInfo
    name 1 string @encoding
    dtype 2 DataType
    tensor_shape 3 TensorShapeProto
    coo_sparse 4 TensorInfo.CooSparse @encoding
    composite_tensor 5 TensorInfo.CompositeTensor @encoding
TensorInfo.CooSparse
    values_tensor_name 1 string
    indices_tensor_name 2 string
    dense_shape_tensor_name 3 string
TensorInfo.CompositeTensor
    components 2 TensorInfo*
AssetFileDef
    tensor_info 1 TensorInfo
    filename 2 string
BundleHeaderProto
    num_shards 1 int32
    endianness 2 BundleHeaderProto.Endianness
    version 3 VersionDef
BundleEntryProto
    dtype 1 DataType
    shape 2 TensorShapeProto
    shard_id 3 int32
    offset 4 int64
    size 5 int64
    crc32c 6 fixed32
"""

_EXAMPLES = """
Example
    features 1 Features
SequenceExample
    context 1 Features
    feature_lists 2 FeatureLists
Features
    feature 1 map<string, Feature>
FeatureLists
    feature_list 1 map<string, FeatureList>
FeatureList
    feature 1 Feature*
Feature
    bytes_list 1 BytesList @kind
    float_list 2 FloatList @kind
    int64_list 3 Int64List @kind
BytesList
    value 1 bytes*
FloatList
    value 1 float*
Int64List
    value 1 int64*
"""

_SESSIONS = """
ConfigProto
    device_count 1 map<string, int32>
    intra_op_parallelism_threads 2 int32
    placement_period 3 int32
    device_filters 4 string*
    inter_op_parallelism_threads 5 int32
    gpu_options 6 GPUOptions
    allow_soft_placement 7 bool
    log_device_placement 8 bool
    use_per_session_threads 9 bool
    graph_options 10 GraphOptions
    operation_timeout_in_ms 11 int64
    session_inter_op_thread_pool 12 ThreadPoolOptionProto*
    isolate_session_state 15 bool
    experimental 16 ConfigProto.Experimental
    share_cluster_devices_in_session 17 bool
GPUOptions
    per_process_gpu_memory_fraction 1 double
    allocator_type 2 string
    deferred_deletion_bytes 3 int64
    allow_growth 4 bool
    visible_device_list 5 string
    polling_active_delay_usecs 6 int32
    polling_inactive_delay_msecs 7 int32
    force_gpu_compatible 8 bool
    experimental 9 GPUOptions.Experimental
ThreadPoolOptionProto
    num_threads 1 int32
    global_name 2 string
GraphOptions
    enable_recv_scheduling 2 bool
    optimizer_options 3 OptimizerOptions
    build_cost_model 4 int64
    infer_shapes 5 bool
    place_pruned_graph 6 bool
    enable_bfloat16_sendrecv 7 bool
    timeline_step 8 int32
    build_cost_model_after 9 int64
    rewrite_options 10 RewriterConfig
OptimizerOptions
    do_common_subexpression_elimination 1 bool
    do_constant_folding 2 bool
    opt_level 3 OptimizerOptions.Level
    do_function_inlining 4 bool
    global_jit_level 5 OptimizerOptions.GlobalJitLevel
    max_folded_constant_in_bytes 6 int64
    cpu_global_jit 7 bool
ConfigProto.Experimental
    collective_group_leader 1 string
    executor_type 3 string
    recv_buf_max_chunk 4 int32
    use_numa_affinity 5 bool
    collective_deterministic_sequential_execution 6 bool
    collective_nccl 7 bool
    share_session_state_in_clusterspec_propagation 8 bool
    disable_thread_spinning 9 bool
    share_cluster_devices_in_session 10 bool
    optimize_for_static_graph 12 bool
    enable_mlir_bridge 13 bool
    disable_output_partition_graphs 14 bool
    xla_fusion_autotuner_thresh 15 int64
    enable_mlir_graph_optimization 16 bool
    mlir_bridge_rollout 17 ConfigProto.Experimental.MlirBridgeRollout
    use_tfrt 18 bool
    disable_functional_ops_lowering 21 bool
    xla_prefer_single_graph_cluster 22 bool
    disable_optimize_for_static_graph 24 bool
    disable_eager_executor_streaming_enqueue 26 bool
    enable_multi_host 27 bool
    backend_server_port 28 int32
    target_tpu 29 bool
    target_gpu 30 bool
    stream_merge_threshold 31 int32
    tfrt_use_ifrt 32 bool
    finalize_function_library_runtime 33 bool
    finalize_resource_manager 34 bool
GPUOptions.Experimental
    use_unified_memory 2 bool
    num_dev_to_dev_copy_streams 3 int32
    collective_ring_order 4 string
    timestamped_allocator 5 bool
    kernel_tracker_max_interval 7 int32
    kernel_tracker_max_bytes 8 int32
    kernel_tracker_max_pending 9 int32
    internal_fragmentation_fraction 10 double
    use_cuda_malloc_async 11 bool
    disallow_retry_on_allocation_failure 12 bool
    gpu_host_mem_limit_in_mb 13 float
    gpu_host_mem_disallow_growth 14 bool
    num_virtual_devices_per_gpu 15 int32
    gpu_system_memory_size_in_mb 16 int32
    populate_pjrt_gpu_client_creation_info 17 bool
    node_id 18 int32
RewriterConfig
    layout_optimizer 1 RewriterConfig.Toggle
    disable_model_pruning 2 bool
    constant_folding 3 RewriterConfig.Toggle
    memory_optimization 4 RewriterConfig.MemOptType
    memory_optimizer_target_node_name_scope 6 string
    arithmetic_optimization 7 RewriterConfig.Toggle
    dependency_optimization 8 RewriterConfig.Toggle
    loop_optimization 9 RewriterConfig.Toggle
    function_optimization 10 RewriterConfig.Toggle
    debug_stripper 11 RewriterConfig.Toggle
    meta_optimizer_iterations 12 RewriterConfig.NumIterationsType
    shape_optimization 13 RewriterConfig.Toggle
    remapping 14 RewriterConfig.Toggle
    scoped_allocator_optimization 15 RewriterConfig.Toggle
    min_graph_nodes 17 int32
    pin_to_host_optimization 18 RewriterConfig.Toggle
    disable_meta_optimizer 19 bool
    meta_optimizer_timeout_ms 20 int64
    fail_on_optimizer_errors 21 bool
    implementation_selector 22 RewriterConfig.Toggle
    auto_mixed_precision 23 RewriterConfig.Toggle
    common_subgraph_elimination 24 RewriterConfig.Toggle
    auto_mixed_precision_mkl 25 RewriterConfig.Toggle
    experimental_disable_compressed_tensor_optimization 26 bool
    experimental_disable_folding_quantization_emulation 27 bool
    use_plugin_optimizers 28 RewriterConfig.Toggle
    auto_mixed_precision_cpu 29 RewriterConfig.Toggle
    experimental_conditional_code_motion 30 RewriterConfig.Toggle
    auto_mixed_precision_onednn_bfloat16 31 RewriterConfig.Toggle
    disable_tfg_optimizer 32 bool
    cpu_layout_conversion 50 RewriterConfig.CpuLayout
    optimizers 100 string*
RunOptions
    timeout_in_ms 2 int64
    inter_op_thread_pool 3 int32
    output_partition_graphs 5 bool
    report_tensor_allocations_upon_oom 7 bool
"""

MESSAGES = _TENSORS + _GRAPHS + _SAVED_MODELS + _EXAMPLES + _SESSIONS
