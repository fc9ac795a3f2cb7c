"""The tests that do not pass, and why: for each class the reason, and its tests."""

from __future__ import annotations

from django import VERSION

QUERIES = "counts queries, and BEGIN and COMMIT are among them now"
ON_COMMIT = "callbacks run at the real commit, not at the end of the block"
DEFERRED = "a deferred constraint is checked at each commit, not at the end of the test"
HOLD = "without a transaction, Django declares a server-side cursor WITH HOLD"
FLUSH = "wants Django's own method to be called, which would flush"
LISTENER = "a test of DeletionTests failed, and left its signal receiver connected"
INNER = "is about the transaction around a test"
WRAPPERS = "wants no other execute wrapper than its own, and a reset has one"

TRANSACTION_TEST_CASES = {
    "test_utils.test_transactiontestcase.TestSerializedRollbackInhibitsPostMigrate": (
        FLUSH,
        "test",
    ),
}

# From Django 6.0 on, bulk_create() opens a transaction only where it needs one.
BEFORE_6_0 = {
    "backends.postgresql.test_compilation.BulkCreateUnnestTests": (
        QUERIES,
        "test_non_literal test_single_object test_unnest_eligible "
        "test_unnest_eligible_foreign_keys",
    ),
    "bulk_create.tests.BulkCreateTests": (
        QUERIES,
        "test_efficiency test_explicit_batch_size_efficiency "
        "test_explicit_batch_size_respects_max_batch_size "
        "test_non_auto_increment_pk_efficiency test_set_pk_and_insert_single_item "
        "test_set_pk_and_query_efficiency",
    ),
}

SINCE_6_0 = {
    "bulk_create.tests.BulkCreateTests": (
        QUERIES,
        "test_explicit_batch_size_efficiency",
    ),
    "delete.tests.FastDeleteTests": (
        LISTENER,
        "test_fast_delete_instance_set_pk_none",
    ),
}

TEST_CASES = {
    "backends.base.test_base.ExecuteWrapperTests": (
        WRAPPERS,
        "test_wrapper_connection_specific",
    ),
    "backends.postgresql.test_server_side_cursors.ServerSideCursorsPostgres": (
        HOLD,
        "test_server_side_cursor test_server_side_cursor_many_cursors "
        "test_server_side_cursors_setting test_values test_values_list "
        "test_values_list_fields_not_equal_to_names test_values_list_flat",
    ),
    "constraints.tests.UniqueConstraintTests": (
        DEFERRED,
        "test_initially_deferred_database_constraint "
        "test_initially_immediate_database_constraint",
    ),
    "delete.tests.DeletionTests": (
        QUERIES,
        "test_bulk test_can_defer_constraint_checks test_large_delete "
        "test_large_delete_related test_only_referenced_fields_selected "
        "test_proxied_model_duplicate_queries",
    ),
    "delete.tests.FastDeleteTests": (
        QUERIES,
        "test_fast_delete_aggregation test_fast_delete_all "
        "test_fast_delete_combined_relationships "
        "test_fast_delete_empty_no_update_can_self_select "
        "test_fast_delete_empty_result_set test_fast_delete_fk "
        "test_fast_delete_full_match test_fast_delete_inheritance "
        "test_fast_delete_joined_qs test_fast_delete_large_batch test_fast_delete_m2m "
        "test_fast_delete_qs test_fast_delete_revm2m",
    ),
    "test_utils.test_testcase.TestTestCase": (
        INNER,
        "test_fixture_teardown_checks_constraints test_reset_sequences",
    ),
    "test_utils.tests.CaptureOnCommitCallbacksTests": (
        ON_COMMIT,
        "test_execute_robust test_execute_robust_with_callback_as_partial "
        "test_execute_tree test_no_arguments test_using",
    ),
}


def known(mode):
    """Return the ids of the tests that do not pass in a mode of the runner."""
    listed = [] if mode == "plain" else [TRANSACTION_TEST_CASES]
    if mode == "all":
        listed += [TEST_CASES, SINCE_6_0 if VERSION >= (6, 0) else BEFORE_6_0]
    return {
        f"{name}.{test}"
        for classes in listed
        for name, (_, tests) in classes.items()
        for test in tests.split()
    }
