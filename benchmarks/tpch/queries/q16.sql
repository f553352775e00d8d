-- How many suppliers without complaints could supply parts of eight sizes, by kind of part.
-- tally: tpch.q16
SELECT p.p_brand, p.p_type, p.p_size, count(DISTINCT ps.ps_suppkey) AS suppliers
FROM tpch.partsupp AS ps
JOIN tpch.part AS p ON p.p_partkey = ps.ps_partkey
WHERE p.p_brand <> 'Brand#45'
    AND p.p_type NOT LIKE 'MEDIUM POLISHED%'
    AND p.p_size IN (3, 9, 14, 19, 23, 36, 45, 49)
    AND ps.ps_suppkey NOT IN (
        SELECT s.s_suppkey FROM tpch.supplier AS s WHERE s.s_comment LIKE '%Customer%Complaints%'
    )
GROUP BY p.p_brand, p.p_type, p.p_size
ORDER BY suppliers DESC, p.p_brand, p.p_type, p.p_size
