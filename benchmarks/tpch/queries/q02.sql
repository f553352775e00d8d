-- The cheapest European supplier of each brass part of size 15; the 100 with the best balances.
-- tally: tpch.q02
SELECT
    s.s_acctbal, s.s_name, n.n_name, p.p_partkey, p.p_mfgr, s.s_address, s.s_phone, s.s_comment
FROM tpch.part AS p
JOIN tpch.partsupp AS ps ON ps.ps_partkey = p.p_partkey
JOIN tpch.supplier AS s ON s.s_suppkey = ps.ps_suppkey
JOIN tpch.nation AS n ON n.n_nationkey = s.s_nationkey
JOIN tpch.region AS r ON r.r_regionkey = n.n_regionkey
WHERE p.p_size = 15 AND p.p_type LIKE '%BRASS' AND r.r_name = 'EUROPE'
    AND ps.ps_supplycost = (
        SELECT min(other.ps_supplycost)
        FROM tpch.partsupp AS other
        JOIN tpch.supplier AS s2 ON s2.s_suppkey = other.ps_suppkey
        JOIN tpch.nation AS n2 ON n2.n_nationkey = s2.s_nationkey
        JOIN tpch.region AS r2 ON r2.r_regionkey = n2.n_regionkey
        WHERE other.ps_partkey = p.p_partkey AND r2.r_name = 'EUROPE'
    )
ORDER BY s.s_acctbal DESC, n.n_name, s.s_name, p.p_partkey, s.s_suppkey
LIMIT 100
